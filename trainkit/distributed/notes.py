"""What a process of a group leaves behind for whoever started it, and for those that are started after it.

torchrun gives each of its workers a file for its error, in a folder of the attempt: ``attempt_0/1/error.json``. Beside
it lies a note of how the worker has ended. From the notes of the last attempt a worker that was started again knows
whether the same would only come again, and workers of one machine tell one failure once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trainkit.errors import Exit, Place, Problem

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
_NOTE = "trainkit.json"
_CAUSE_S = 2.0  # the process that is the cause says so within this time after another has noticed
_FIRST_S = 0.5  # which the first process has before the others, where all would say the same


@dataclass(frozen=True)
class Ending:
    """How a process of a group has ended.

    Args:
        rank: which one it was that has ended so.
        code: its exit code.
        message: what it would say.
        lost: whether it ended because another one had.
        problems: of a recipe that is wrong, as plain data.
        trace: the traceback, where it was asked for.
        folder: the run folder, where this process writes it.
        repeated: whether it is how those before this process have ended, which it has not tried again.
    """

    rank: int
    code: int
    message: str = ""
    lost: bool = False
    problems: list[dict[str, Any]] = field(default_factory=list)
    trace: str = ""
    folder: str = ""
    repeated: bool = False


def plain_problems(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Problems as JSON can hold them."""
    return [asdict(problem) for problem in problems]


def problems_of(plain: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """The problems that `plain_problems` has made plain."""
    return [Problem(**{**problem, "place": Place(**problem["place"])}) for problem in plain]


class Notes:
    """The folder of this process's notes; without one nothing is noted, and nothing known.

    Args:
        environ: the environment of the process, as torchrun sets it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        given = environ.get(ERROR_FILE, "")
        self._own = Path(given).parent if given and Path(given).parent.is_dir() else None
        self._error_file = given
        self.restarts = _number(environ.get(RESTARTS))
        self.workers = max(1, _number(environ.get("LOCAL_WORLD_SIZE")))

    @property
    def _attempt(self) -> Path | None:
        return None if self._own is None else self._own.parent

    def _of_attempt(self, number: int) -> Path | None:
        attempt = self._attempt
        if attempt is None or not re.fullmatch(r"attempt_\d+", attempt.name):
            return None
        return attempt.with_name(f"attempt_{number}")

    # ------------------------------------------------------------ how processes end

    def write(self, ending: Ending) -> None:
        """Leave how this process ends, for its successors and for whoever started it."""
        if self._own is None:
            return
        with contextlib.suppress(OSError):  # a full disk: it is told as any other failure is
            _write(self._own / _NOTE, asdict(ending))
            if ending.code:  # as torch's own ErrorHandler writes it, for the table that torchrun shows
                extra = {"py_callstack": ending.trace or ending.message, "timestamp": str(int(time.time()))}
                _write(Path(self._error_file), {"message": {"message": ending.message, "extraInfo": extra}})

    def last(self) -> list[Ending]:
        """How the processes of the last attempt on this machine have ended; those that were killed left nothing."""
        folder = self._of_attempt(self.restarts - 1) if self.restarts else None
        return [] if folder is None else endings(folder)

    def settled(self) -> Ending | None:
        """What would only come again, where this process was started again after it; ``None`` if it should try."""
        found = self.last()
        folder = next((ending.folder for ending in found if ending.folder), "")
        final = [ending for ending in found if ending.code and not ending.lost]
        failures = [ending for ending in final if ending.code != Exit.STOPPED]
        if failures:
            return replace(failures[0], folder=folder)
        # Who starts processes asks all to stop when one is gone; that is not what a user has asked for.
        known = any(ending.repeated for ending in final)  # others may have been ended before they could say the same
        return replace(final[0], folder=folder) if final and (known or len(final) == self.workers) else None

    # ------------------------------------------------------------ who tells it

    def may_tell(self, ending: Ending) -> bool:
        """Whether this process is the one to tell its failure: the first to say these words on this machine.

        Those that have only noticed that another one is gone let it speak, and speak where it did not.
        """
        attempt = self._attempt
        if attempt is None:
            return not ending.lost or ending.rank == 0
        if ending.lost:
            deadline = time.monotonic() + _CAUSE_S
            while time.monotonic() < deadline:
                if any(not other.lost and other.code for other in endings(attempt)):
                    return False
                time.sleep(0.05)
        elif ending.rank:
            time.sleep(_FIRST_S)
        words = "lost" if ending.lost else ending.message
        name = f".told-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
        try:
            os.close(os.open(attempt / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        except OSError:
            return True
        return True


def endings(attempt: Path) -> list[Ending]:
    """How the processes have ended whose notes lie in a folder, in the order of their ranks."""
    found = []
    for path in attempt.glob(f"*/{_NOTE}"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Ending(**json.loads(path.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda ending: ending.rank)


def newest_attempt(root: Path) -> Path | None:
    """The folder of the newest attempt below a folder of logs."""
    attempts = [path for path in root.glob("*/attempt_*") if path.name.removeprefix("attempt_").isdecimal()]
    return max(attempts, key=lambda path: int(path.name.removeprefix("attempt_")), default=None)


def _write(path: Path, value: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    os.replace(temporary, path)


def _number(text: str | None) -> int:
    try:
        return int(text or "0")
    except ValueError:
        return 0
