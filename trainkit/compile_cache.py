"""Where the compiler keeps its files: a folder of each process, begun from what was proven whole and given back whole.

torch trusts whatever lies in its cache, and a process that was killed while it wrote may leave half a library there.
Here nothing is written where another process reads. A process copies the files of an earlier one, checks each against
its hash, works in the copy, and at the end publishes its own folder under a new name at once. What is damaged is
thrown away and compiled again.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from trainkit.catalogue import cache_folder

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
MANIFEST = "MANIFEST.json"
MOST_BYTES = 256 << 20  # of one kind of program; where a process would have more, what is there stays as it is
_TRIES = 3
_OURS = ".process-"  # how the folders of processes begin, followed by the process's number and its machine


def program_key(tables: Mapping[str, Any]) -> str:
    """Under which name programs of recipes like this one are kept: what only makes numbers other leaves it the same."""
    run = {name: tables["run"][name] for name in ("precision", "accumulate", "updates_per_call", "channels_last")}
    data = {name: tables["data"][name] for name in ("use", "batch_size")}
    parts = [torch.__version__, _processor(), tables["model"], tables["loss"], tables["optimizer"]["use"], run, data]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def is_published(key: str) -> bool:
    """Whether an earlier process has left programs of this kind."""
    return (Path(cache_folder()) / "compiled" / key / MANIFEST).is_file()


def _processor() -> str:
    """What the processor can do: programs are compiled for it, and folders of users may be shared by machines."""
    flags = [line for line in _text(Path("/proc/cpuinfo")).splitlines() if line.startswith(("flags", "Features"))]
    return flags[0] if flags else f"{platform.machine()} {platform.processor()}"


class CompileCache:
    """The compiler's files of this process.

    A user who sets ``TORCHINDUCTOR_CACHE_DIR`` keeps torch's own ways.

    Args:
        key: which kind of program, as `program_key` names it.
        say: tells the user something once.

    Attributes:
        folder: where the compiler's files are.
        private: whether this process alone uses that folder, which ends with it.
    """

    def __init__(self, key: str, say: Callable[[str], None]) -> None:
        self._say = say
        root = Path(cache_folder()) / "compiled"
        self._published: Path | None = root / key
        self.folder = Path()
        self.private = False
        given = os.environ.get(VARIABLE)
        # torch sets the variable itself, to a folder of this name, as soon as anything in the process asks for it.
        torchs = os.path.join(tempfile.gettempdir(), "torchinductor_")
        if given and not given.startswith(torchs):
            self.folder, self._published = Path(given), None
            return
        self.private = True
        try:
            # The compiler's command line has no quotes.
            if " " in str(root):
                raise OSError("a blank in its path")
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            _refuse_others(root)
            _clear(root)
            self.folder = _new_folder(root)
        except OSError:
            self._published = None
            self.folder = _new_folder(Path(tempfile.gettempdir()))
        else:
            self._begin()

    def _begin(self) -> None:
        """Copy what an earlier process published, where every file is what it was."""
        assert self._published is not None
        if not self._published.is_dir():
            return
        for _ in range(_TRIES):
            manifest = _text(self._published / MANIFEST)
            try:
                _copy_whole(self._published, self.folder)
                return
            except (OSError, ValueError) as error:
                shutil.rmtree(self.folder, ignore_errors=True)
                self.folder.mkdir(mode=0o700, exist_ok=True)
                if _text(self._published / MANIFEST) != manifest:  # another process published in the meantime
                    continue
                self._say(f"the cache of compiled programs is damaged ({error}); it is thrown away and made again")
                shutil.rmtree(self._published, ignore_errors=True)
                return

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Let torch's compiler read and write here."""
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(self.folder)
        try:
            yield
        finally:
            if before is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = before

    def start_afresh(self) -> bool:
        """Go on in an empty folder, after files here were no good; False where the folder is not ours to leave."""
        if not self.private:
            return False
        from torch._inductor.utils import clear_caches

        clear_caches()
        if self._published is not None:
            shutil.rmtree(self._published, ignore_errors=True)
        self.folder = _new_folder(self.folder.parent)
        return True

    def publish(self) -> None:
        """Give what was compiled to later processes; what cannot be written is left out."""
        if self._published is None:
            return
        with contextlib.suppress(OSError):
            _publish(self.folder, self._published)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _refuse_others(root: Path) -> None:
    """Refuse a folder that another user can write to: what lies in it is loaded as code.

    Raises:
        OSError: if it is such a folder.
    """
    held = root.stat()
    if hasattr(os, "getuid") and (held.st_uid != os.getuid() or held.st_mode & 0o022):
        raise OSError("others can write to it")


def _machine() -> str:
    """A word for this machine: a folder of users may be shared by several, whose processes have the same numbers."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _new_folder(root: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{_OURS}{os.getpid()}-{_machine()}-", dir=root))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _clear(root: Path) -> None:
    """Remove the folders of processes of this machine that were killed."""
    for path in root.glob(f"{_OURS}*-{_machine()}-*"):
        number = path.name.removeprefix(_OURS).split("-")[0]
        if number.isdigit() and not _alive(int(number)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _files(folder: Path) -> list[str]:
    """What is worth keeping; locks and the compiler's precompiled headers are not."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    names = (path.relative_to(folder).as_posix() for path in paths)
    left_out = (".lock", ".gch", ".pch", ".tmp")
    return sorted(name for name in names if not name.endswith(left_out) and name != MANIFEST)


def _copy_whole(source: Path, target: Path) -> None:
    """Copy a published folder.

    Raises:
        ValueError: if a file is not what the manifest says; nothing of ``target`` may be used then.
    """
    files: Any = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(files, dict) or sorted(files) != _files(source):
        raise ValueError("files are missing or too many")
    for name, digest in files.items():
        content = (source / name).read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"{name} has {len(content)} bytes that are not those which were written")
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o700)


def _publish(source: Path, target: Path) -> None:
    names = _files(source)
    with contextlib.suppress(OSError, ValueError):
        if set(json.loads((target / MANIFEST).read_text(encoding="utf-8"))) >= set(names):
            return  # nothing is new
    if sum((source / name).stat().st_size for name in names) > MOST_BYTES:
        return
    fresh = _new_folder(target.parent)
    manifest = {}
    for name in names:
        content = (source / name).read_bytes()
        manifest[name] = hashlib.sha256(content).hexdigest()
        path = fresh / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o700)
    (fresh / MANIFEST).write_text(json.dumps(manifest, indent=0), encoding="utf-8")
    # A folder is replaced in two steps. Between them, and where two do it at once, one process compiles needlessly.
    aside = _new_folder(target.parent)
    with contextlib.suppress(OSError):
        os.rename(target, aside / "old")
    os.rename(fresh, target)
    shutil.rmtree(aside, ignore_errors=True)
