"""Pages are kept while a run lasts, and only then."""

from __future__ import annotations

import ctypes
import os
import sys

import pytest

from trainkit import allocator
from trainkit.allocator import ADAPTED, KEPT, MB, RETURNED, keep_pages, return_pages

BLOCK = 16 * MB


def on_glibc() -> bool:
    return allocator._glibc() is not None


needs_glibc = pytest.mark.skipif(not on_glibc(), reason="only glibc has these thresholds")


class Recorded:
    """Stands for glibc and keeps what it is told."""

    def __init__(self, answer: int = 1) -> None:
        self.answer = answer
        self.told: list[tuple[int, int]] = []

    def mallopt(self, number: int, size: int) -> int:
        self.told.append((number, size))
        return self.answer

    def malloc_trim(self, pad: int) -> int:
        self.told.append((0, pad))
        return 1


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    for name in ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_"):
        monkeypatch.delenv(name, raising=False)
    libc = Recorded()
    monkeypatch.setattr(allocator, "_glibc", lambda: libc)
    return libc


def test_it_sets_and_restores(recorded: Recorded) -> None:
    with keep_pages() as done:
        assert done
        assert recorded.told == list(KEPT.items())
    assert recorded.told == [*KEPT.items(), *ADAPTED.items(), (0, 0)]


def test_what_a_divided_model_lets_go_goes_back(recorded: Recorded) -> None:
    with return_pages() as done:
        assert done
        assert recorded.told == list(RETURNED.items())
    assert recorded.told == [*RETURNED.items(), *ADAPTED.items()]


def test_it_restores_after_an_error(recorded: Recorded) -> None:
    with pytest.raises(RuntimeError, match="in the run"), keep_pages():
        raise RuntimeError("in the run")
    assert recorded.told[-1] == (0, 0)


def test_it_does_nothing_where_it_is_not_wanted(recorded: Recorded) -> None:
    with keep_pages(False) as done:
        assert not done
    assert recorded.told == []


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "1"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=0")]
)
def test_the_environment_goes_first(recorded: Recorded, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with keep_pages() as done:
        assert not done
    assert recorded.told == []


def test_it_stops_at_what_is_refused(recorded: Recorded) -> None:
    recorded.answer = 0
    with keep_pages() as done:
        assert not done
    assert recorded.told == list(KEPT.items())[:1]


@pytest.mark.parametrize("error", [AttributeError, ValueError])
def test_it_does_nothing_off_glibc(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def unknown(name: str) -> str:
        raise error(name)

    monkeypatch.setattr(os, "confstr", unknown, raising=False)
    with keep_pages() as done:
        assert not done


def resident() -> int:
    """Bytes of memory that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@needs_glibc
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory held is read from /proc")
def test_freed_memory_stays_within_and_goes_back_after() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    with keep_pages():
        blocks = [libc.malloc(BLOCK) for _ in range(8)]
        for block in blocks:
            ctypes.memset(block, 1, BLOCK)
        held = resident()
        for block in blocks:
            libc.free(block)
        assert held - resident() < BLOCK
    assert held - resident() > 7 * BLOCK
