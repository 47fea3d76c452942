"""Whose signature a certificate bears, where keys have changed hands: what a ledger's key records say of it.

Always true here: the key given from outside is the only one that is believed by itself; another one counts where a key believed at that
point handed over to it in the ledger; a key that the ledger withdraws, at whatever entry, vouches for nothing, because nobody can tell
when it signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forebear.schemas.enums import EntryKind
from forebear.tracer.certify.dsse import Envelope
from forebear.tracer.ledger.key_records import KeyRecord, keys_in_force
from forebear.tracer.ledger.keys import PublicKey
from forebear.tracer.ledger.layout import is_prefix

if TYPE_CHECKING:
    from forebear.tracer.ledger.ledger import Ledger

__all__ = ["Signers", "read_signers"]


@dataclass(frozen=True)
class Signers:
    """The key given from outside, and the ledger's records about keys: (entry, record), oldest first."""

    trusted: PublicKey
    records: tuple[tuple[int, KeyRecord], ...] = ()

    def signer(self, envelope: Envelope) -> PublicKey | None:
        """The key that signed: the trusted one, or one that it handed over to at some entry."""
        found = [self.trusted]
        for number, _ in self.records:
            later = keys_in_force(self.trusted, self.records, size=number + 1)
            found += [PublicKey(raw) for raw in later if PublicKey(raw) not in found]
        return next((one for one in found if envelope.signed_by(one)), None)

    def withdrawn(self, signer: PublicKey) -> int | None:
        """The entry that withdraws a key, if there is one that may."""
        for number, record in self.records:
            before = keys_in_force(self.trusted, self.records, size=number)
            if record.action == "revoke" and record.key == signer.raw and (record.by in before or record.by == record.key):
                return number
        return None

    def in_force(self, signer: PublicKey, *, size: int) -> bool:
        """Whether a key was one to sign with at a head of that many entries."""
        return signer.raw in keys_in_force(self.trusted, self.records, size=size)


def read_signers(trusted: PublicKey, ledger: Ledger) -> Signers:
    """The records of a ledger that build on its own history.

    Raises:
        IntegrityError: A key record is missing, malformed, or not signed by the key that it names.
    """
    entries = ledger.entries()
    data = [one for _, one, _ in entries]
    numbered = [(n, KeyRecord.from_bytes(ledger.get_object(entry.object))) for n, _, entry in entries if entry.kind is EntryKind.KEY]
    return Signers(trusted, tuple((n, one) for n, one in numbered if one.head.size <= n and is_prefix(one.head, data)))
