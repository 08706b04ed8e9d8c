"""What becomes of jobs whose workers die: they go on elsewhere where a node is to blame, else that is their outcome."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainkit import Job, MachineError, Outcome
from trainkit_ray.cluster import node_died, reason
from trainkit_ray.worker import versions

GRACE_S = 20.0  # beyond a job's time limit, for a step boundary to come
LIVES = 3  # nodes that may die under a job before it has a newer checkpoint
STARTS = 3  # workers in a row that end before they are ready: then another would too


class Deaths:
    """Keeps count of workers that died.

    Args:
        say: tells the user something, once.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.failed = 0  # workers in a row that ended before they were ready
        self._say = say
        self._nodes: dict[Path, tuple[str, int]] = {}

    def before_it_began(self, error: Exception) -> None:
        """Take in that a worker died before it was ready.

        Raises:
            MachineError: if others would too.
        """
        why = reason(error)
        if node_died(error) or "node" in why:
            return  # Ray had not noticed yet that a node is dead, and another may have room
        self.failed += 1
        if self.failed >= STARTS:
            has = ", ".join(f"{name} {version}" for name, version in versions().items())
            raise MachineError(
                f"workers of the Ray cluster end before they have begun: {why}\n"
                f"  every node needs trainkit, its plugins and torch as here: {has}"
            )

    def of(self, job: Job, seconds: float, error: Exception, late: bool, unreachable: bool) -> Outcome | None:
        """The outcome of a job whose worker died; ``None`` where it is to go on elsewhere.

        Args:
            job: the job.
            seconds: how long it was trained.
            error: what Ray says.
            late: whether the worker was ended because the job's time was over.
            unreachable: whether it may live, and no message comes through.
        """
        why = reason(error)
        if late:
            told = f"timeout: {job.timeout:g} s are over, and no step boundary came within {GRACE_S:g} s more"
            return Outcome("timeout", seconds=seconds, message=told)
        if "low on memory" in str(error):  # Ray ends a worker before the system would
            return Outcome("oom", seconds=seconds, message=f"its node had no more memory: {why}")
        if (unreachable or node_died(error)) and self._gets_on(job):
            self._say(f"a node of the Ray cluster is gone; {job.name} goes on elsewhere from its newest checkpoint")
            return None
        return Outcome("killed", seconds=seconds, message=f"its worker died: {why}")

    def _gets_on(self, job: Job) -> bool:
        """Whether a job may lose another node: not where nodes die under it again and again and it gets nowhere."""
        newest = max((path.name for path in (job.folder / "checkpoints").glob("step-*")), default="")
        before, count = self._nodes.get(job.folder, ("", 0))
        count = count + 1 if newest == before else 1
        self._nodes[job.folder] = newest, count
        return count <= LIVES
