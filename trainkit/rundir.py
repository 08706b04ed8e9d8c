"""The run folder: one writer, written so that a reader never meets half a file."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import filelock

from trainkit.errors import MachineError


def runs_root() -> Path:
    """Where run folders go unless ``--run-dir`` says otherwise: TRAINKIT_RUNS, else ``runs``."""
    return Path(os.environ.get("TRAINKIT_RUNS") or "runs")


def new_folder_name(recipe: str) -> str:
    """A name that sorts by time and does not collide: ``resnet_cosine-20260131-235959-a1b2``."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(recipe).stem).strip(".-") or "run"
    return f"{stem[:40]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that it is either the old or the new one, also after a power cut."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path | str) -> None:
    """Make names in a folder durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def plain_number(value: float) -> float | None:
    """JSON has no NaN and no infinity: they are written as null."""
    return value if math.isfinite(value) else None


class RunFolder:
    """A locked run folder.

    Args:
        path: the folder; made if it does not exist.
        resume: whether it may hold a run, which is to be continued.

    Raises:
        MachineError: if another process holds it, if it holds a run and must not, or something else than a run, or if
            it cannot be written.
    """

    def __init__(self, path: Path, resume: bool = False) -> None:
        self.path = path
        try:
            self._made = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(path / ".lock")
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            message = "another process is writing to this run folder; wait for it, or name another with --run-dir"
            raise MachineError(f"{path}: {message}") from None
        except OSError as error:
            message = f"the run folder cannot be made: {error.strerror}; name another with --run-dir"
            raise MachineError(f"{path}: {message}") from error
        names = set(os.listdir(path))
        self.continues = resume and "recipe.toml" in names
        # A run that was killed before its recipe was written leaves no more than hidden files and a log.
        spared = {name for name in names if name.startswith(".") or name == "log.txt"} if resume else {".lock"}
        if not self.continues and names - spared:
            self._lock.release()
            message = "the folder is not empty; name a new one with --run-dir"
            if resume:
                message = "there is no run to continue (no recipe.toml), and the folder is not empty"
            elif "recipe.toml" in names:
                message = "the folder is not empty, it holds a run: continue that with --resume, or name a new one"
            raise MachineError(f"{path}: {message}")
        self.metrics_bytes = 0
        self._metrics: TextIO | None = None
        self._log: TextIO | None = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def describe(self, recipe_toml: str, environment: Mapping[str, Any]) -> None:
        """Write what the run is: the filled recipe and the environment, before anything else."""
        write_atomically(self.path / "recipe.toml", recipe_toml)
        write_atomically(self.path / "environment.json", json.dumps(environment, indent=2) + "\n")

    def log(self, text: str) -> None:
        """Append a line to ``log.txt``, with the time."""
        if self._log is None:
            self._log = open(self.path / "log.txt", "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")

    def metrics(self, line: Mapping[str, Any]) -> None:
        """Append an object to ``metrics.jsonl``; a reader sees whole lines only."""
        if self._metrics is None:
            self._metrics = open(self.path / "metrics.jsonl", "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        text = json.dumps(line, allow_nan=False) + "\n"
        self._metrics.write(text)
        self.metrics_bytes += len(text.encode())

    def cut(self, length: int) -> list[dict[str, Any]]:
        """Go back to when ``metrics.jsonl`` had so many bytes, and there was no report.

        Returns:
            The lines that stay. A power cut may have taken some of them, since they are not made durable one by one.
        """
        path = self.path / "metrics.jsonl"
        (self.path / "report.json").unlink(missing_ok=True)
        text = path.read_bytes()[:length] if path.exists() else b""
        text = text[: text.rfind(b"\n") + 1]
        if path.exists():
            os.truncate(path, len(text))
        self.metrics_bytes = len(text)
        if len(text) < length:
            self.log(f"metrics.jsonl has {len(text)} bytes where the checkpoint knows of {length}: lines are missing")
        try:
            return [json.loads(line) for line in text.splitlines()]
        except ValueError as error:
            raise MachineError(f"{path}: a line is not JSON: {error}\n  put the line right, or remove it") from error

    def report(self, report: Mapping[str, Any]) -> None:
        """Write ``report.json``, which closes the run."""
        write_atomically(self.path / "report.json", json.dumps(report, indent=2, allow_nan=False) + "\n")

    def discard(self) -> None:
        """Remove the folder of a run that never started; what a run that is continued has made stays."""
        self.close()
        if self.continues:
            return
        for name in ("recipe.toml", "environment.json", "log.txt", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        if self._made:
            self.path.rmdir()

    def close(self) -> None:
        """Close the files and let other processes in."""
        for file in (self._metrics, self._log):
            if file is not None:
                file.close()
        self._lock.release()


def environment(seed: int, device: str, command: str, distributions: Mapping[str, str]) -> dict[str, Any]:
    """What ``environment.json`` holds: everything outside the recipe that results can depend on."""
    import numpy
    import torch

    import trainkit

    cuda = device.startswith("cuda")
    return {
        "trainkit": trainkit.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "plugins": dict(sorted(distributions.items())),
        "device": device,
        "device_name": torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "seed": seed,
        "command": command or " ".join(sys.argv),
    }
