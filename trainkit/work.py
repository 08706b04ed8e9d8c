"""What a search is made of for those who carry it out: jobs, what becomes of them, and what an executor is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from trainkit.run import Metrics


@dataclass(frozen=True)
class Job:
    """One run to train, wholly or up to a rung. Plain data: it can be sent to another process or machine.

    Args:
        trial: the trial's number.
        part: which run of the trial, from 0: trials over folds or seeds have several.
        recipe: the run's whole recipe as TOML, without ``[search]`` and ``[ensemble]``.
        folder: its run folder. A run that is there already, and has not ended, goes on from its newest checkpoint.
        until: share of the run to train until; at the first evaluation there the run pauses with a checkpoint.
        parent: run folder whose newest checkpoint a new run begins from; ``None``: from nothing.
        objectives: figures that the search looks at; the first is the one that is reported.
        watched: whether the run waits at each evaluation for the answer whether it goes on.
        timeout: seconds that this job may take; 0 for no limit.
        accept_drift: whether a run goes on although versions or device have changed since it was saved.
        named: what messages call it where it is no trial, such as ``member 3``.
        command: what made the run, for its ``environment.json``; ``""``: that it is a trial or member, and which.
        test: whether the run is measured on the test samples at its end, as one that is made alone.
        longer: whether a run that has ended goes on where its recipe asks for more, and is refused where it does not;
            else its outcome is given once more.
    """

    trial: int
    part: int
    recipe: str
    folder: Path
    until: float = 1.0
    parent: Path | None = None
    objectives: tuple[str, ...] = ("val.loss",)
    watched: bool = False
    timeout: float = 0.0
    accept_drift: bool = False
    named: str = ""
    command: str = ""
    test: bool = False
    longer: bool = False

    @property
    def name(self) -> str:
        """What messages call it: ``trial 7`` or ``trial 7, run 2``."""
        return self.named or f"trial {self.trial}" + (f", run {self.part + 1}" if self.part else "")


JobStatus = Literal["done", "paused", "pruned", "interrupted", "nan", "oom", "timeout", "killed", "error"]


@dataclass(frozen=True)
class Measured:
    """One evaluation of a running job.

    Args:
        trained: share of the run that is trained, 0 to 1.
        metrics: the newest figures with their split, such as ``{"val.loss": 0.31}``.
    """

    trained: float
    metrics: Metrics


@dataclass(frozen=True)
class Outcome:
    """How a job came to rest. Plain data.

    Args:
        status: ``interrupted`` where a signal or the executor stopped it; it goes on later.
        metrics: the newest figures, with ``parameters`` and ``seconds`` beside those of the run.
        trained: share of the run that is trained.
        steps: updates made in the whole run so far.
        epochs: epochs made in the whole run so far.
        seconds: wall seconds that this job took.
        message: what went wrong, in words.
        origin: for an error, what tells it from others: its class and its place in the code.
        defect: whether an error is a defect of trainkit or a plugin. What the recipe or the run is at fault for is
            none: a component that refuses a point's values, a run that failed.
        code: for an error, the exit code that it would have where the run is made alone; 0 where nobody has said it.
    """

    status: JobStatus
    metrics: Metrics = field(default_factory=dict)
    trained: float = 0.0
    steps: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    message: str = ""
    origin: str = ""
    defect: bool = False
    code: int = 0


@dataclass(frozen=True)
class Site:
    """What an executor is told when it opens. Plain data but for the functions, which stay in the driver's process.

    Args:
        folder: the study folder.
        modules: plugins given with ``-p``.
        without: plugins left out with ``--without``.
        seed: the recipe's seed.
        say: tells the user something, once.
        measured: told each evaluation of a job; gives a reason to prune it there, or ``""``. A run that fails and goes
            on from a checkpoint tells evaluations again. The reason that is given to the last one does not count, nor
            any where the job is not watched.
        recipe: the recipe as written, as TOML without ``[search]`` and ``[ensemble]``, for measuring and for telling
            what it can do.
        jobs: how many jobs there are, where that is known; 0 where it is not.
        progress: told about long work before a job's first update, such as decoding images; see `trainkit.Progress`.
        where: the place that the user named with ``--on``, for an executor that declares the capability ``elsewhere``;
            ``""`` leaves it to the executor.
    """

    folder: Path
    modules: Sequence[str] = ()
    without: Sequence[str] = ()
    seed: int = 0
    say: Callable[[str], None] = print
    measured: Callable[[Job, Measured], str] = lambda job, measured: ""
    recipe: str = ""
    jobs: int = 0
    progress: Callable[[int, int, str], None] = lambda done, total, text: None
    where: str = ""


@runtime_checkable
class Executor(Protocol):
    """Carries jobs out: here, in other processes, many at once, or on a cluster; one thread calls all its methods.

    Args:
        slots: how many jobs it takes at once; known after `open`.
    """

    slots: int

    def open(self, site: Site) -> None:
        """Get ready; called once, before the first job.

        Raises:
            MachineError: if the machine lacks something, such as the cluster.
        """
        ...

    def submit(self, job: Job) -> None:
        """Take a job; never more than `slots` at once."""
        ...

    def wait(self, seconds: float) -> Sequence[tuple[Job, Outcome]]:
        """Work, or wait, until jobs have come to rest, at most about so long where it can be helped; give them.

        A worker that died gives ``killed``; nothing is raised for what goes wrong in a job.

        Raises:
            MachineError: if no job will fare better, and the search must end: the disk is full, a device is missing.
        """
        ...

    def stop(self) -> None:
        """Let every running job stop at its next step boundary with a checkpoint; `wait` gives them as interrupted.

        A signal's handler may call it in the middle of `wait`: it does no more than to leave word.
        """
        ...

    def close(self) -> None:
        """End every process that was begun; called once, also after errors. No job is running or their work is lost."""
        ...
