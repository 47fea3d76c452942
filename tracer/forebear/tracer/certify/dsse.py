"""DSSE envelopes (Dead Simple Signing Envelope, protocol v1.0.2) around in-toto statements, signed with Ed25519.

Always true here: what is signed is the pre-authentication encoding of the payload's own bytes, and nothing of a payload is parsed
before its signature was looked at; an envelope is read strictly and within a size.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from forebear.schemas.canonical import canonical_json, parse_json
from forebear.schemas.errors import DataError
from forebear.tracer.ledger.keys import PrivateKey, PublicKey

__all__ = ["MAX_ENVELOPE", "PAYLOAD_TYPE", "Envelope", "pre_authentication", "read_envelope", "sign_envelope"]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_ENVELOPE = 64 << 20


@dataclass(frozen=True)
class Envelope:
    """A payload and its signatures: (key id, signature) pairs."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def signed_by(self, key: PublicKey) -> bool:
        """Whether any signature over the payload is the key's; key ids are hints and decide nothing."""
        data = pre_authentication(self.payload)
        return any(key.verify(signature, data) for _, signature in self.signatures)

    def to_bytes(self) -> bytes:
        """One line of canonical JSON."""
        signatures = [{"keyid": key, "sig": base64.b64encode(one).decode()} for key, one in self.signatures]
        payload = base64.b64encode(self.payload).decode()
        return canonical_json({"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": signatures}) + b"\n"


def pre_authentication(payload: bytes) -> bytes:
    """PAE of DSSE: the bytes that are signed."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def sign_envelope(payload: bytes, key: PrivateKey) -> Envelope:
    """The payload signed by one key."""
    return Envelope(payload, ((key.public.key_id.removeprefix("sha256:"), key.sign(pre_authentication(payload))),))


def read_envelope(data: bytes) -> Envelope:
    """Parse an envelope.

    Raises:
        DataError: The bytes are no envelope around an in-toto statement.
    """
    try:
        if len(data) > MAX_ENVELOPE:
            raise ValueError(f"more than {MAX_ENVELOPE} bytes")
        value = parse_json(data)
        if value["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"payloadType {value['payloadType']!r:.80}")
        signatures = tuple(_signature(one) for one in value["signatures"])
        if not signatures:
            raise ValueError("no signature")
        return Envelope(base64.b64decode(value["payload"], validate=True), signatures)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error) as error:
        raise DataError(
            "not_a_certificate",
            expected=f"a DSSE envelope with a payload of {PAYLOAD_TYPE}",
            found=f"{type(error).__name__}: {str(error)[:200]}",
            remedy="Get the certificate again from where the model is released.",
        ) from error


def _signature(value: Any) -> tuple[str, bytes]:
    key = value.get("keyid", "")
    if not isinstance(key, str):
        raise TypeError("keyid is no text")
    return key, base64.b64decode(value["sig"], validate=True)
