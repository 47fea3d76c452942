"""Signing keys: Ed25519, private ones as PKCS#8 PEM files, public ones as SPKI PEM files, as openssl reads and writes them.

Always true here: a private key is written once, to a new file that its owner alone may read; what a key signs is the bytes given,
never a form of them; a key is named by the SHA-256 of its SPKI, and in signed notes by the four bytes that C2SP's signed-note
derives from a name and the raw key. No other kind of key is accepted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from forebear.schemas.digests import sha256_name
from forebear.schemas.errors import UsageError

__all__ = ["PrivateKey", "PublicKey", "generate", "load_private", "load_public", "write_pair"]

_MAX_FILE = 64 << 10  # a PEM of an Ed25519 key is under 200 bytes
_NOTE_ED25519 = b"\x01"  # C2SP signed-note: signature type of Ed25519
_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")  # RFC 8410: SubjectPublicKeyInfo of id-Ed25519, before the 32 bytes


@dataclass(frozen=True)
class PublicKey:
    """A public key; `raw` is its 32 bytes (RFC 8032)."""

    raw: bytes

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo in DER (RFC 8410)."""
        return _SPKI_PREFIX + self.raw

    @property
    def key_id(self) -> str:
        """The key's name: `sha256:` and the digest of its SPKI, as `openssl pkey -pubin -outform DER | sha256sum` gives it."""
        return sha256_name(self.spki)

    def note_hash(self, name: str) -> bytes:
        """The four bytes that name the key in a signed note: SHA-256(name || LF || 0x01 || key)[:4] (C2SP signed-note)."""
        return hashlib.sha256(name.encode() + b"\n" + _NOTE_ED25519 + self.raw).digest()[:4]

    def to_pem(self) -> bytes:
        """SPKI as PEM."""
        return Ed25519PublicKey.from_public_bytes(self.raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature over these very bytes is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, repr=False)
class PrivateKey:
    """A private key; `seed` is its 32 bytes (RFC 8032) and is never shown."""

    seed: bytes

    def __repr__(self) -> str:
        return f"PrivateKey of {self.public.key_id}"

    @property
    def public(self) -> PublicKey:
        """The public half."""
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        return PublicKey(public.public_bytes(Encoding.Raw, PublicFormat.Raw))

    def sign(self, data: bytes) -> bytes:
        """The signature over these bytes, 64 bytes; the same bytes give the same signature."""
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(data)

    def to_pem(self) -> bytes:
        """PKCS#8 as PEM, not encrypted."""
        key = Ed25519PrivateKey.from_private_bytes(self.seed)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def generate(random_bytes: Callable[[int], bytes] = os.urandom) -> PrivateKey:
    """A new key from 32 random bytes."""
    return PrivateKey(random_bytes(32))


def load_private(path: str | Path) -> PrivateKey:
    """The private key in a PKCS#8 PEM file.

    Raises:
        UsageError: The file cannot be read, or holds something else.
    """
    data = _read(path)
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError:  # what cryptography raises for an encrypted key without a passphrase
        _not_a_key(path, "an encrypted one", "Decrypt it first: openssl pkey -in FILE -out PLAIN.")
    except (ValueError, UnsupportedAlgorithm):
        _not_a_key(path, _described(data), "Give the private key's file: `openssl genpkey -algorithm ed25519` makes one.")
    if not isinstance(key, Ed25519PrivateKey):
        _not_a_key(path, type(key).__name__, "Make an Ed25519 key: openssl genpkey -algorithm ed25519.")
    return PrivateKey(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))


def load_public(path: str | Path) -> PublicKey:
    """The public key in an SPKI PEM file.

    Raises:
        UsageError: The file cannot be read, or holds something else.
    """
    data = _read(path)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        _not_a_key(path, _described(data), "Give the public key's file: `openssl pkey -in KEY -pubout` writes it.")
    if not isinstance(key, Ed25519PublicKey):
        _not_a_key(path, type(key).__name__, "Give an Ed25519 key's public half.")
    return PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def write_pair(key: PrivateKey, *, private: Path, public: Path) -> None:
    """Write both halves to files that are not there yet; the private one readable by its owner alone.

    Raises:
        UsageError: One of them exists, or cannot be written.
    """
    if public.exists():
        _refuse_existing(public)
    try:
        with os.fdopen(os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(key.to_pem())
        with os.fdopen(os.open(public, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as out:
            out.write(key.public.to_pem())
    except FileExistsError as error:
        _refuse_existing(Path(error.filename))
    except OSError as error:
        raise UsageError(
            "unwritable_file", expected=f"a place for a key at {private}", found=str(error), remedy="Name another path."
        ) from error


def _read(path: str | Path) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_FILE)
    except OSError as error:
        raise UsageError(
            "unreadable_key", expected=f"a key in {path}", found=error.strerror or str(error), remedy="Name a PEM file."
        ) from error


def _described(data: bytes) -> str:
    """What a file seems to hold, for messages; never its content."""
    if b"PRIVATE KEY-----" in data:
        return "a private key that cannot be used so"
    return "a public key" if b"-----BEGIN PUBLIC KEY-----" in data else "no PEM of a key"


def _not_a_key(path: str | Path, found: str, remedy: str) -> NoReturn:
    raise UsageError("not_a_key", expected=f"an Ed25519 key as PEM in {path}", found=found, remedy=remedy)


def _refuse_existing(path: Path) -> NoReturn:
    remedy = "Name another file; a key that is lost with its file cannot be had back."
    raise UsageError("file_exists", expected=f"no file at {path}", found="one", remedy=remedy)
