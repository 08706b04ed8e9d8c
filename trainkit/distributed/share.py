"""Which rows of a batch a process takes."""

from __future__ import annotations

from typing import NamedTuple


class Share(NamedTuple):
    """One of several processes, as batches are cut among them: neighbouring rows, in the order of ranks.

    Args:
        rank: which of them, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def bounds(self, count: int) -> tuple[int, int]:
        """The first of ``count`` rows that are this process's, and the one after the last.

        The first ``count % size`` processes have one row more than the others; of few rows a process may have none.
        """
        least, more = divmod(count, self.size)
        first = self.rank * least + min(self.rank, more)
        return first, first + least + (self.rank < more)

    def taken(self, count: int) -> tuple[int, int]:
        """As `bounds`, but never empty: who has no row takes the first one, which weighs nothing there."""
        first, end = self.bounds(count)
        return (first, end) if end > first else (0, 1)


WHOLE = Share()
