"""Key records: how one signing key hands over to another, or is withdrawn, in the ledger's own entries.

Always true here: a record is signed by the key that acts, over its own canonical JSON and the head on which it builds, so it is worth
nothing in another history; a key is trusted because it was given from outside, or because a key trusted at that point handed over to
it; a key that handed over, or was withdrawn, signs nothing later.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from forebear.schemas.canonical import canonical_json, parse_json
from forebear.schemas.errors import IntegrityError
from forebear.schemas.records import Head

if TYPE_CHECKING:
    from forebear.tracer.ledger.keys import PrivateKey, PublicKey

__all__ = ["KEY_SCHEMA", "KeyRecord", "key_record", "keys_in_force"]

KEY_SCHEMA = "forebear/key/1"


@dataclass(frozen=True)
class KeyRecord:
    """A key's word about keys.

    Args:
        action: `rotate`: from here on `key` signs, and `by` no longer; `revoke`: `key` signs nothing from here on.
        by: The 32 bytes of the key that says so.
        key: The 32 bytes of the key that it is about.
        head: The head on which it builds.
        why: For people.
    """

    action: str
    by: bytes
    key: bytes
    head: Head
    why: str

    @classmethod
    def from_bytes(cls, data: bytes) -> KeyRecord:
        """Parse strictly, and check the signature.

        Raises:
            IntegrityError: `malformed_record`, or `key_signature_invalid`.
        """
        from forebear.tracer.ledger.keys import PublicKey

        try:
            value = parse_json(data)
            if canonical_json(value) != data or set(value) != {"schema", "action", "by", "key", "head", "why", "signature"}:
                raise ValueError("not in canonical form, or other keys")
            if value["schema"] != KEY_SCHEMA or value["action"] not in {"rotate", "revoke"} or not isinstance(value["why"], str):
                raise ValueError("another schema or action")
            head = Head(value["head"]["size"], bytes.fromhex(value["head"]["root"].removeprefix("sha256:")))
            record = cls(value["action"], _raw(value["by"], 32), _raw(value["key"], 32), head, value["why"])
            signature = _raw(value["signature"], 64)
            if type(head.size) is not int or head.to_json() != value["head"]:
                raise ValueError("no head")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error) as error:
            raise IntegrityError(
                "malformed_record",
                expected="a key record in canonical form",
                found=f"{type(error).__name__}: {str(error)[:200]}",
                remedy="It was written so: whoever wrote it did not use `forebear key`.",
            ) from error
        if not PublicKey(record.by).verify(signature, record.signed_bytes()):
            raise IntegrityError(
                "key_signature_invalid",
                expected=f"a signature by the key {PublicKey(record.by).key_id}",
                found="one that does not verify",
                remedy="Believe none of its keys: the entry was not made by the key that it names.",
            )
        return record

    def signed_bytes(self) -> bytes:
        """What is signed: the record without its signature."""
        return canonical_json(self._value())

    def _value(self) -> dict[str, Any]:
        named = {"by": base64.b64encode(self.by).decode(), "key": base64.b64encode(self.key).decode()}
        return {"schema": KEY_SCHEMA, "action": self.action, **named, "head": self.head.to_json(), "why": self.why}


def key_record(action: Literal["rotate", "revoke"], key: PublicKey, *, by: PrivateKey, head: Head, why: str = "") -> bytes:
    """The bytes of a signed key record."""
    record = KeyRecord(action, by.public.raw, key.raw, head, why)
    signature = by.sign(record.signed_bytes())
    return canonical_json({**record._value(), "signature": base64.b64encode(signature).decode()})


def keys_in_force(trusted: PublicKey, records: Iterable[tuple[int, KeyRecord]], *, size: int) -> Mapping[bytes, int]:
    """The keys that may sign a head of a size, each with the number of the entry that made it so (-1: given from outside).

    Args:
        trusted: The key that was given from outside.
        records: (entry number, record) in order; those whose head is not that of the first entries must be left out.
        size: Entries that count.
    """
    force = {trusted.raw: -1}
    withdrawn: set[bytes] = set()
    for number, record in records:
        if number >= size:
            break
        # A key may withdraw itself even where it is not the one we trust: nobody else could have signed that.
        if record.action == "revoke" and (record.by in force or record.by == record.key):
            force.pop(record.key, None)
            withdrawn.add(record.key)
        elif record.action == "rotate" and record.by in force and record.key not in withdrawn:
            del force[record.by]
            force[record.key] = number
    return force


def _raw(text: str, size: int) -> bytes:
    raw = base64.b64decode(text, validate=True)
    if len(raw) != size:
        raise ValueError(f"{size} bytes in base64 expected")
    return raw
