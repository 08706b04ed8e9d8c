"""Freed memory kept in the process while a run lasts, so that no update waits for fresh pages.

Each update frees its activations. glibc gives such blocks back to the kernel, which then has to clear every page
again for the next update: ResNet-8 with batches of 128 on one core loses up to a sixth of its time to that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator, Mapping

# The numbers of malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MB = 2**20

# Both are needed: naming one stops glibc from adapting the other, and a threshold left at the 128 kB it starts with
# doubles the time of an update. 32 MB is the highest that glibc accepts; larger blocks go back to the kernel as ever.
KEPT = {MMAP_THRESHOLD: 32 * MB, TRIM_THRESHOLD: 1024 * MB}
RETURNED = {MMAP_THRESHOLD: MB, TRIM_THRESHOLD: MB}
# glibc never adapts again after it was told, so this is not what it starts with but where a program with large blocks
# ends up by itself.
ADAPTED = {MMAP_THRESHOLD: 32 * MB, TRIM_THRESHOLD: 64 * MB}


def keep_pages(wanted: bool = True) -> contextlib.AbstractContextManager[bool]:
    """Let glibc keep up to 1 GB of freed memory; afterwards everything freed goes back to the kernel.

    Nothing happens elsewhere than on glibc, nor where the environment already says how to allocate.

    Args:
        wanted: whether to do it at all.

    Returns:
        What it lasts in; that gives whether it is done.
    """
    return _told(KEPT, trims=True) if wanted else contextlib.nullcontext(False)


def return_pages() -> contextlib.AbstractContextManager[bool]:
    """Let glibc give large blocks back to the kernel as soon as they are freed.

    Where a model is divided among processes its layers are gathered and let go again all the time, and what is kept of
    them comes to more than what dividing them spares. Nothing happens where `keep_pages` does nothing.

    Returns:
        What it lasts in; that gives whether it is done.
    """
    return _told(RETURNED)


@contextlib.contextmanager
def _told(thresholds: Mapping[int, int], trims: bool = False) -> Iterator[bool]:
    libc = _glibc() if can_keep_pages() else None
    if libc is None or not _tell(libc, thresholds):
        yield False
        return
    try:
        yield True
    finally:
        _tell(libc, ADAPTED)
        if trims:
            libc.malloc_trim(0)


def can_keep_pages() -> bool:
    """Whether this is glibc, and the environment leaves the choice to us."""
    return _glibc() is not None and not _chosen_by_user(os.environ)


def _tell(libc: ctypes.CDLL, thresholds: Mapping[int, int]) -> bool:
    return all(libc.mallopt(number, size) == 1 for number, size in thresholds.items())


def _glibc() -> ctypes.CDLL | None:
    try:
        version = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError):  # not a Unix, or one with another C library
        return None
    return ctypes.CDLL(None) if version and version.startswith("glibc") else None


def _chosen_by_user(environment: Mapping[str, str]) -> bool:
    tuned = "glibc.malloc" in environment.get("GLIBC_TUNABLES", "")
    return tuned or any(f"MALLOC_{name}_" in environment for name in ("TRIM_THRESHOLD", "MMAP_THRESHOLD", "MMAP_MAX"))
