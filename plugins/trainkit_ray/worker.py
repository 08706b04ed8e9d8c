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
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainkit_ray.carried import Piece, Receiver, Sender, send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainkit import Job, Measured, Site, Stopper

# To a worker: a job, an answer to what it measured, nothing but the wish to hear more. From it: the rest.
JOB, ANSWER, MORE = "job", "answer", "more"
MEASURED, ENDED, LACKS, CARRIED = "measured", "ended", "lacks", "carried"
STOPS, ALONE = "the search stops", "stopped with the command that had it trained"  # of trials; of other runs
SENT_S = 1.0  # between two looks at what a carried run folder has that is new
OWN = "trainkit-ray-"  # how the folder begins in which a worker keeps a run that is carried; its process follows
HELD = 3  # messages with parts of it that wait for the driver
Message = tuple[str, Any]


@dataclass(frozen=True)
class Told:
    """What a worker is told when it begins.

    Args:
        versions: of what must be the same everywhere; see `versions`.
        token: a file in the study folder, as the driver sees it; a node that does not see it has run folders carried
            to and fro.
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


def told_to_workers(site: Site, token: Path, secret: str, threads: int) -> Told:
    """What workers are told for the jobs of a site."""
    return Told(
        versions(),
        token,
        secret,
        [absolute(module) for module in site.modules],
        list(site.without),
        threads,
        os.getcwd(),
        list(sys.path),
        {name: value for name, value in os.environ.items() if name.startswith("TRAINKIT_")},
    )


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
        self.stopping, self.stops = False, STOPS
        self.sees = True
        self.arriving: Receiver | None = None  # of the run that comes next, where its folder is carried

    def begin(self) -> tuple[str, bool]:
        """Get ready.

        Returns:
            What is missing here, or nothing; and whether the study folder is seen from here.
        """
        told, here = self.told, platform.node()
        for name, version in told.versions.items():
            if (own := versions()[name]) != version:
                return (
                    f"node {here} has {name} {own}, and the search is run with {name} {version}\n"
                    f"  install {name} {version} there, so that a trial is the same on every node"
                ), False
        try:
            self.sees = told.token.read_text(encoding="utf-8") == told.secret
        except OSError:
            self.sees = False
        for name, value in told.environment.items():
            # A folder that only the driver has is no reason to forget the node's own.
            if name not in os.environ or not os.path.isabs(value) or os.path.exists(value):
                os.environ[name] = value
        sys.path += [entry for entry in told.path if entry not in sys.path]
        with contextlib.suppress(OSError):  # relative paths of data then start where a relative TRAINKIT_DATA does not
            os.chdir(told.cwd)
        _sweep(Path(tempfile.gettempdir()))
        threading.Thread(target=self._train, daemon=True).start()
        return "", self.sees

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

    def here(self) -> None:
        """Nothing: that it is answered is the answer."""

    def take(self, name: str, pieces: list[Piece]) -> None:
        """Take a part of the folder of the run that comes next.

        Args:
            name: what the folder is called, with its first part; ``""`` with the others.
            pieces: the part.
        """
        if name:
            self.arriving = Receiver(Path(tempfile.mkdtemp(prefix=f"{OWN}{os.getpid()}-")) / name)
        assert self.arriving is not None
        for piece in pieces:
            self.arriving.take(piece)

    def stop(self) -> None:
        """Let the job stop at its next step boundary."""
        self.stopping = True
        if (stopper := self.stopper) is not None:
            stopper.ask(self.stops)

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

        self.stops = ALONE if job.named else STOPS
        self.stopper = Stopper()
        if self.stopping:
            self.stopper.ask(self.stops)
        try:
            with self._carrying(job) as here, printing_to(here.folder):
                outcome = run_job(here, plugins, self._measured, self.stopper, datasets)
            told = outcome.message.replace(str(here.folder), str(job.folder))  # the one that lasts
            return ENDED, dataclasses.replace(outcome, message=told)
        except MachineError as error:
            return LACKS, f"node {platform.node()}: {error}"
        except OSError as error:
            return LACKS, f"node {platform.node()}: {error.filename or job.folder}: {error.strerror or error}"
        except BaseException as error:  # a worker that says nothing would let the search wait for ever
            message = f"{type(error).__name__}: {error}"
            return ENDED, Outcome("error", message=message, origin=type(error).__name__, defect=True)
        finally:
            self.stopper = None

    @contextlib.contextmanager
    def _carrying(self, job: Job) -> Iterator[Job]:
        """The job with a folder that this node sees; where that is its own, the driver is sent what changes in it."""
        if self.sees:
            yield job
            return
        assert self.arriving is not None
        folder, self.arriving = self.arriving.folder, None
        sender, over = Sender(folder), threading.Event()
        sender.take_as_sent()

        def watch() -> None:
            while not over.wait(SENT_S):
                send(sender, self._carried)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield dataclasses.replace(job, folder=folder)
        finally:
            over.set()
            watcher.join()
            send(sender, self._carried)
            shutil.rmtree(folder.parent, ignore_errors=True)

    def _carried(self, pieces: list[Piece]) -> None:
        while self.said.qsize() >= HELD:  # the driver is slow: what it does not take is not read
            time.sleep(0.02)
        self.said.put((CARRIED, pieces))

    def _measured(self, job: Job, measured: Measured) -> str:
        self.said.put((MEASURED, measured))
        return self.answers.get() if job.watched else ""


def _sweep(folder: Path) -> None:
    """Remove what workers have left here that were killed."""
    for left in folder.glob(f"{OWN}*-*"):
        number = left.name.removeprefix(OWN).partition("-")[0]
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            shutil.rmtree(left, ignore_errors=True)
        except (OSError, ValueError):  # somebody else's
            continue
