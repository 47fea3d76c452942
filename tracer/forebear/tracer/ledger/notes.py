"""Signed heads: C2SP signed notes over the three lines of a head.

Always true here: what is signed is the head's own text and nothing else; a note may carry several signatures, of which one by the right
key is enough and others say nothing; a signature that names the right key and does not verify is worse than none.
"""

from __future__ import annotations

import base64
import binascii
from enum import StrEnum
from typing import TYPE_CHECKING

from forebear.schemas.records import Head

if TYPE_CHECKING:
    from forebear.tracer.ledger.keys import PrivateKey, PublicKey

__all__ = ["NOTE_NAME", "Signed", "sign_head", "signed_by"]

NOTE_NAME = Head.ORIGIN
"""The name of a ledger's key in its notes is the origin of its checkpoints (C2SP tlog-checkpoint)."""

_DASH = "— "  # U+2014 and a space begin a signature line (C2SP signed-note)


class Signed(StrEnum):
    """What a note says about a key."""

    YES = "yes"
    NO = "no"
    FORGED = "forged"  # a line of this key's name and hash that is no signature of it


def sign_head(head: Head, key: PrivateKey) -> bytes:
    """A head as a signed note: its three lines, an empty line, one signature line."""
    body = head.to_bytes()
    value = base64.b64encode(key.public.note_hash(NOTE_NAME) + key.sign(body)).decode()
    return body + f"\n{_DASH}{NOTE_NAME} {value}\n".encode()


def signed_by(note: bytes, key: PublicKey) -> Signed:
    """Whether a note (that `Head.from_bytes` has read) is signed by a key."""
    body, _, lines = note.partition(b"\n\n")
    found = Signed.NO
    for line in lines.decode("utf-8", "replace").splitlines():
        name, _, value = line.removeprefix(_DASH).partition(" ")
        try:
            raw = base64.b64decode(value, validate=True)
        except (ValueError, binascii.Error):
            continue
        if name != NOTE_NAME or raw[:4] != key.note_hash(NOTE_NAME):
            continue
        if key.verify(raw[4:], body + b"\n"):
            return Signed.YES
        found = Signed.FORGED
    return found
