"""What every step of the scan shares as a Beam DoFn: its plan, its stores opened once in a process, its failures made plain.

Always true here: a step holds no logic of its own; what it does is a function of `forebear.tracer`. A failure that a user can mend
leaves a record in the job, since exceptions lose their shape on the way through a runner.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from forebear.schemas.errors import ForebearError, UsageError
from forebear.tracer.ledger.ledger import Ledger
from forebear.tracer.scan.commit import job_work
from forebear.tracer.scan.plan import Plan
from forebear.tracer.scan.work import Work

__all__ = ["FAILURE", "Step", "storage_failure"]

FAILURE = "failure.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)
_STORAGE = dict.fromkeys(_FULL, "disk_full") | dict.fromkeys(_REFUSED, "not_permitted")


class Step(beam.DoFn):
    """A step of the scan; subclasses implement `work_on`, and `begin` for what is loaded once."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan

    def setup(self) -> None:
        """Open the stores, load what the step needs."""
        self.ledger = Ledger.open(self.plan.ledger)
        self.work = Work(self.plan.work)
        self.job = job_work(self.plan.ledger, self.plan.job)
        self.begin()

    def begin(self) -> None:
        """Load what the step needs once."""

    def work_on(self, element: Any, *sides: Any) -> Iterator[Any]:
        """Do the step's work on one element."""
        raise NotImplementedError

    def process(self, element, *sides):  # type: ignore[no-untyped-def]  # Beam would read hints, and sides vary
        """Work on an element; a failure that a user can mend is recorded for the driver."""
        try:
            yield from self.work_on(element, *sides)
        except ForebearError as error:
            self._record(error)
            raise
        except OSError as error:
            known = storage_failure(error)
            if known is not None:
                self._record(known)
            raise

    def _record(self, error: ForebearError) -> None:
        try:
            self.job.put_json(FAILURE, error.to_json()["error"])
        except OSError:
            return  # the disk that is full may be this one; the driver then has the exception's text

    def mark_start(self) -> None:
        """Note when the first worker began, once."""
        if not self.job.names("started"):
            self.job.put_json("started/first.json", {"time": time.time()})


def storage_failure(error: OSError) -> UsageError | None:
    """A full disk or a lost permission as an error that says what to do; None for anything else."""
    kind = _STORAGE.get(error.errno or 0)
    if kind is None:
        return None
    where = error.filename or "the ledger or the work folder"
    remedy = "Free some space, or name another place with --work-dir; finished evidence is kept and taken up by the next scan."
    if kind == "not_permitted":
        remedy = "Give this user permission to write there, or name another place."
    return UsageError(kind, expected=f"room to write at {where}", found=error.strerror or str(error), remedy=remedy)
