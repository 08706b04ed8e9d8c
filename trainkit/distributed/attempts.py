"""What a group that is started again knows of those before it.

Whoever starts processes and starts them again, as torchrun does, keeps a store meanwhile, which outlives them. There
the first process writes down which folder the run has and how far it is with it, so that the same command, given once
more, goes on with the same run - and never with one that lay there before. What the other
processes write is theirs alone, and goes with them.

Source: https://docs.pytorch.org/docs/stable/elastic/run.html for what torchrun sets in the environment.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainkit.distributed.group import PeerLost

FOLDER = "folder"  # the run has this folder, which was found fit for it
CLEARED = "cleared"  # and the run that lay there has been put aside
BEGUN = "begun"  # and whatever report is there is this run's
_WITHIN_S = 10.0
_SCRATCH = "trainkit-rank-"
_YOUNG_S = 3600.0  # a folder that was made or changed since may be of a process that is not seen from here
_runs = itertools.count()  # of this process: a program that trains several has notes of each


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this process's own that goes with it, and with it those that killed processes have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*-*"):
        owner = folder.name.removeprefix(_SCRATCH).partition("-")[0]
        with contextlib.suppress(OSError, ValueError, OverflowError):  # another user's, or gone meanwhile
            if not _lives(int(owner)) and time.time() - folder.stat().st_mtime > _YOUNG_S:
                shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _lives(process: int) -> bool:
    if os.name != "posix":  # there the same call ends it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


class Attempts:
    """Notes on a run that outlive a group's processes; where nobody keeps them, nothing is ever noted.

    Args:
        restarts: how often the group was started again.
        environ: the environment; that of the process if not given.
    """

    def __init__(self, restarts: int = 0, environ: Mapping[str, str] | None = None) -> None:
        self.restarts = restarts
        self._environ = os.environ if environ is None else environ
        self._opened: Any = None
        self._name = f"trainkit/{next(_runs)}"

    def note(self, name: str, text: str = "yes") -> None:
        """Write something down.

        Raises:
            PeerLost: if whoever keeps the notes is gone.
        """
        if (store := self._store()) is not None:
            try:
                store.set(f"{self._name}/{name}", text)
            except RuntimeError as error:
                raise PeerLost("whoever started the processes is gone; the run can be resumed") from error

    def noted(self, name: str) -> str | None:
        """What was written down before the group was started again."""
        if not self.restarts or (store := self._store()) is None or not store.check([f"{self._name}/{name}"]):
            return None
        return bytes(store.get(f"{self._name}/{name}")).decode()

    def place(self, folder: Path, resume: bool, fresh: bool) -> tuple[Path, bool, bool]:
        """The run folder, and whether the run that is in it is continued, or put aside.

        Args:
            folder: where the run goes if it has not been begun.
            resume: whether a run that lies there is continued, as whoever began the group said.
            fresh: whether it is put aside.
        """
        known = self.noted(FOLDER)
        if known is None:
            return folder, resume, fresh
        fresh = fresh and self.noted(CLEARED) is None
        return Path(known), not fresh, fresh

    def _store(self) -> Any:
        environ = self._environ
        if environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            return None
        if self._opened is None:
            import torch.distributed as dist

            self._opened = dist.TCPStore(  # type: ignore[attr-defined]  # a public name all the same
                environ["MASTER_ADDR"],
                int(environ["MASTER_PORT"]),
                is_master=False,
                wait_for_workers=False,
                timeout=datetime.timedelta(seconds=_WITHIN_S),
            )
        return self._opened
