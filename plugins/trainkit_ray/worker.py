"""What a worker on the cluster does. It lives in an actor; nothing of Ray is needed here.

One thread trains; the calls that come from the driver only pass messages, so that a wish to stop is heard at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import platform
import queue
import sys
import threading
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainkit import Job, Measured, Stopper

# To a worker: a job, an answer to what it measured, nothing but the wish to hear more. From it: the rest.
JOB, ANSWER, MORE = "job", "answer", "more"
MEASURED, ENDED, LACKS = "measured", "ended", "lacks"
STOPS = "the search stops"
Message = tuple[str, Any]


@dataclass(frozen=True)
class Told:
    """What a worker is told when it begins.

    Args:
        versions: of what must be the same everywhere; see `versions`.
        token: a file in the study folder, as the driver sees it.
        secret: what it holds.
        modules: plugins given with ``-p``.
        without: plugins left out.
        threads: threads of torch where a recipe says none.
        cwd: the driver's working directory.
        path: where the driver looks for modules.
        environment: trainkit's own variables, as the driver has them.
    """

    versions: dict[str, str]
    token: Path
    secret: str
    modules: list[str]
    without: list[str]
    threads: int
    cwd: str
    path: list[str]
    environment: dict[str, str]


def versions() -> dict[str, str]:
    """What must be the same on driver and workers, so that a trial is the same wherever it is trained.

    Which devices torch was built for may differ from node to node.
    """
    torch = metadata.version("torch").partition("+")[0]  # without the half second that its import takes
    python = ".".join(platform.python_version_tuple()[:2])
    return {"trainkit": metadata.version("trainkit"), "torch": torch, "Python": python}


def sent(job: Job) -> Job:
    """The job with paths that hold on every node."""
    parent = None if job.parent is None else job.parent.absolute()
    return dataclasses.replace(job, folder=job.folder.absolute(), parent=parent)


def absolute(module: str) -> str:
    """A plugin's file by a path that holds on every node; a module's name as it is."""
    return str(Path(module).absolute()) if Path(module).exists() else module


class Worker:
    """Trains one job after the other; its methods are called from the driver, several at a time.

    Args:
        told: what it is told.
    """

    def __init__(self, told: Told) -> None:
        self.told = told
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.said: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.stopper: Stopper | None = None
        self.stopping = False

    def begin(self) -> str:
        """Get ready: what is missing here, or nothing."""
        told, here = self.told, platform.node()
        for name, version in told.versions.items():
            if (own := versions()[name]) != version:
                return (
                    f"node {here} has {name} {own}, and the search is run with {name} {version}\n"
                    f"  install {name} {version} there, so that a trial is the same on every node"
                )
        try:
            found = told.token.read_text(encoding="utf-8")
        except OSError:
            found = ""
        if found != told.secret:
            return (
                f"node {here} does not see the study folder {told.token.parent}\n"
                "  put it on storage that all nodes have under the same path: trainkit run --run-dir DIR"
            )
        os.environ.update(told.environment)
        sys.path += [entry for entry in told.path if entry not in sys.path]
        with contextlib.suppress(OSError):  # relative paths of data then start where a relative TRAINKIT_DATA does not
            os.chdir(told.cwd)
        threading.Thread(target=self._train, daemon=True).start()
        return ""

    def talk(self, word: str, said: Any = None) -> list[Message]:
        """Take a message, and give what there is to tell, once there is something."""
        if word == JOB:
            self.jobs.put(said)
        elif word == ANSWER:
            self.answers.put(said)
        told = [self.said.get()]
        while not self.said.empty():
            told.append(self.said.get())
        return told

    def stop(self) -> None:
        """Let the job stop at its next step boundary."""
        self.stopping = True
        if (stopper := self.stopper) is not None:
            stopper.ask(STOPS)

    # ------------------------------------------------------------ the thread that trains

    def _train(self) -> None:
        try:
            import torch

            from trainkit import Datasets, open_plugins

            torch.set_num_threads(self.told.threads)
            plugins, datasets = open_plugins(self.told.modules, self.told.without), Datasets()
        except BaseException as error:  # whatever it is, the driver waits to hear of it
            self.said.put((LACKS, f"a worker on node {platform.node()} could not begin: {error}"))
            return
        gc.collect()
        gc.freeze()  # what is imported stays, and need not be looked through again
        while True:
            self.said.put(self._carried_out(self.jobs.get(), plugins, datasets))
            gc.collect()  # a run's parts refer to each other, and its memory, a device's too, is for the next

    def _carried_out(self, job: Job, plugins: Any, datasets: Any) -> Message:
        from trainkit import MachineError, Outcome, Stopper, printing_to, run_job

        self.stopper = Stopper()
        if self.stopping:
            self.stopper.ask(STOPS)
        try:
            with printing_to(job.folder):
                return ENDED, run_job(job, plugins, self._measured, self.stopper, datasets)
        except MachineError as error:
            return LACKS, f"node {platform.node()}: {error}"
        except OSError as error:
            return LACKS, f"node {platform.node()}: {error.filename or job.folder}: {error.strerror or error}"
        except BaseException as error:  # a worker that says nothing would let the search wait for ever
            message = f"{type(error).__name__}: {error}"
            return ENDED, Outcome("error", message=message, origin=type(error).__name__, defect=True)
        finally:
            self.stopper = None

    def _measured(self, job: Job, measured: Measured) -> str:
        self.said.put((MEASURED, measured))
        return self.answers.get() if job.watched else ""
