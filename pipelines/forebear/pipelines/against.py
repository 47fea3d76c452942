"""Against: the documents that earlier runs kept, as packs beside those of the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from forebear.pipelines.steps import Step
from forebear.tracer.scan.against import EarlierPack, earlier_packs, earlier_roster
from forebear.tracer.scan.packs import put_roster

__all__ = ["ListEarlier", "OpenEarlier"]


class ListEarlier(Step):
    """One element in; (number, band table of an earlier run) out."""

    def work_on(self, element: object) -> Iterator[tuple[int, str]]:
        """List the band tables of every earlier run."""
        found = [one for _, run in self.plan.against for one in earlier_packs(run, self.ledger)]
        yield from enumerate(one.to_json() for one in found)


class OpenEarlier(Step):
    """A band table of an earlier run in; its pack out, once its roster is there."""

    def work_on(self, element: tuple[int, Iterable[str]]) -> Iterator[str]:
        """Make the roster from the log."""
        earlier = EarlierPack.from_json(next(iter(element[1])))
        put_roster(earlier_roster(earlier, self.ledger), earlier.pack, self.work)
        yield earlier.pack.to_json()
