"""What is done where trials fail: each status has a policy, and some failures end the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainkit import errors
from trainkit.errors import Exit, TrainkitError
from trainkit.recipe.searching import POLICIES, Policy
from trainkit.trial import FAILURES, TrialStatus
from trainkit.work import Outcome

RETRIES = 1  # of a run whose process was killed
FIRST = 3  # trials that all fail alike show a defect, not a region of the space


class StudyStopped(TrainkitError):
    """The search ended before its time because of what happened in its trials; all results so far are kept."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = code


def policy(fail: Mapping[TrialStatus, Policy], status: TrialStatus) -> Policy:
    """What is done with trials of a status: ``worst``, ``drop``, ``stop`` or ``retry``."""
    return fail.get(status, POLICIES[status][0])


def is_failure(status: str) -> bool:
    """Whether a job's status is one of a failure."""
    return status in FAILURES


def machine_is_full(outcome: Outcome) -> bool:
    """Whether a job failed because the machine lacks room or the like, which no other trial could help."""
    return outcome.status == "error" and outcome.origin.partition(" ")[0].rpartition(".")[2] == "MachineError"


def defect(outcome: Outcome) -> Exit | None:
    """The exit code of a study in which a job met a defect; ``None`` if it is none.

    What only this point's values do not go with, such as batches that are larger than the data, is no defect.
    """
    if outcome.status != "error" or not outcome.defect:
        return None
    name = outcome.origin.partition(" ")[0].rpartition(".")[2]
    if name == "RecipeError":
        return None
    known = getattr(errors, name, None)
    return getattr(known, "exit_code", Exit.DEFECT)


class FirstErrors:
    """Looks whether the first trials all fail with one error, which is a defect and no property of their points."""

    def __init__(self) -> None:
        self.origins: dict[int, str] = {}

    def add(self, trial: int, status: str, origin: str) -> None:
        """Take in how a trial came to rest."""
        if trial < FIRST:
            self.origins[trial] = origin if status == "error" else ""

    @property
    def alike(self) -> bool:
        """Whether all of the first trials failed with the same error."""
        found = list(self.origins.values())
        return len(found) == FIRST and bool(found[0]) and len(set(found)) == 1


def stopped_by(name: str, outcome_message: str, why: str, folder: object, words: Sequence[str] = ()) -> str:
    """The message of a study that a failure has ended."""
    told = outcome_message.rstrip() or "no message"
    lines = [f"{folder}: the search was stopped: {why}", f"  {name}: " + told.replace("\n", "\n    "), *words]
    return "\n".join(lines)
