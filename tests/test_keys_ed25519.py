"""Signing keys: the same files, ids and signatures as openssl's, and nothing but Ed25519."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebear.schemas.errors import UsageError
from forebear.tracer.ledger.keys import PrivateKey, PublicKey, generate, load_private, load_public, write_pair

# RFC 8032, section 7.1, test 2.
SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def openssl(*arguments: str, cwd: Path) -> bytes:
    return subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True).stdout


def test_signatures_are_those_of_rfc_8032() -> None:
    key = PrivateKey(SEED)
    assert key.public.raw == PUBLIC
    assert key.sign(b"\x72") == SIGNATURE
    assert key.public.verify(SIGNATURE, b"\x72")


@given(st.binary(max_size=200), st.integers(0, 63), st.integers(1, 255))
def test_a_changed_signature_or_message_does_not_verify(data: bytes, at: int, flip: int) -> None:
    key = PrivateKey(SEED)
    signature = bytearray(key.sign(data))
    assert not key.public.verify(bytes(signature), data + b"x")
    signature[at] ^= flip
    assert not key.public.verify(bytes(signature), data)


def test_files_are_read_by_openssl_and_the_key_id_is_the_digest_of_its_der(tmp_path: Path) -> None:
    key = generate()
    write_pair(key, private=tmp_path / "a.key", public=tmp_path / "a.pub")
    assert openssl("pkey", "-in", "a.key", "-pubout", cwd=tmp_path) == (tmp_path / "a.pub").read_bytes()
    der = openssl("pkey", "-pubin", "-in", "a.pub", "-outform", "DER", cwd=tmp_path)
    assert key.public.key_id == "sha256:" + hashlib.sha256(der).hexdigest()
    assert load_private(tmp_path / "a.key") == key and load_public(tmp_path / "a.pub") == key.public


def test_a_private_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    write_pair(generate(), private=tmp_path / "a.key", public=tmp_path / "a.pub")
    assert (tmp_path / "a.key").stat().st_mode & 0o077 == 0


def test_the_note_hash_is_that_of_c2sp() -> None:
    """C2SP signed-note: SHA-256(name || LF || 0x01 || public key), first four bytes; the value was computed with sha256sum."""
    expected = hashlib.sha256(b"example.com/log\n\x01" + PUBLIC).digest()[:4]
    assert PublicKey(PUBLIC).note_hash("example.com/log") == expected
    assert PublicKey(PUBLIC).note_hash("example.com/other") != expected


def test_a_private_key_does_not_show_itself() -> None:
    assert SEED.hex() not in repr(PrivateKey(SEED)) and str(SEED) not in repr(PrivateKey(SEED))


def test_neither_file_of_a_pair_is_overwritten(tmp_path: Path) -> None:
    for there in ("a.key", "a.pub"):
        folder = tmp_path / there
        folder.mkdir()
        (folder / there).write_text("mine")
        with pytest.raises(UsageError) as error:
            write_pair(generate(), private=folder / "a.key", public=folder / "a.pub")
        assert error.value.kind == "file_exists"
        assert [one.read_text() for one in folder.iterdir()] == ["mine"]


REFUSED = {
    "a file that is not there": ("none.key", "", "unreadable_key"),
    "an empty file": ("empty", "touch empty", "not_a_key"),
    "an RSA key": ("rsa", "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa", "not_a_key"),
    "an encrypted key": ("enc", "openssl genpkey -algorithm ed25519 -aes256 -pass pass:x -out enc", "not_a_key"),
    "the public half": ("pub", "openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out pub", "not_a_key"),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_a_private_key_is_refused_when_it_is(sentence: str, tmp_path: Path) -> None:
    name, command, kind = REFUSED[sentence]
    subprocess.run(command or "true", shell=True, cwd=tmp_path, check=True, capture_output=True)
    with pytest.raises(UsageError) as error:
        load_private(tmp_path / name)
    assert error.value.kind == kind and name in error.value.expected


def test_a_private_key_given_as_a_public_one_is_refused_and_not_quoted(tmp_path: Path) -> None:
    key = generate()
    (tmp_path / "a.key").write_bytes(key.to_pem())
    with pytest.raises(UsageError) as error:
        load_public(tmp_path / "a.key")
    assert error.value.kind == "not_a_key" and key.to_pem().decode().splitlines()[1] not in str(error.value)
