"""Points of a curve, thinned out once there are more than a picture can show."""

from __future__ import annotations

Point = tuple[float, ...]  # where it lies, on one axis or several, and last of all its value
MOST_BUNCHES = 2048  # more points than a picture has columns


class Thinned:
    """Points from left to right, as many as can be seen.

    Neighbours are put together, as many as it takes; of each such bunch the lowest and the highest stay, so that no
    spike is lost, and of all the last one: where a curve has come to. Up to ``most`` points stay as they are.

    Args:
        most: bunches that are kept.
    """

    def __init__(self, most: int = MOST_BUNCHES) -> None:
        self.last: Point = ()
        self._most = most
        self._bunches: list[list[Point]] = []  # the lowest and the highest of each; one where they are the same
        self._size = 1
        self._in_last = 0

    def add(self, *point: float) -> None:
        """Take in the next point: one number or more that say where it lies, then its value."""
        self.last = point
        if self._bunches and self._in_last < self._size:
            self._bunches[-1] = _extremes([*self._bunches[-1], point])
            self._in_last += 1
            return
        if len(self._bunches) == self._most:
            pairs = zip(self._bunches[::2], self._bunches[1::2], strict=True)
            self._bunches = [_extremes(one + other) for one, other in pairs]
            self._size *= 2
        self._bunches.append([point])
        self._in_last = 1

    @property
    def points(self) -> list[Point]:
        """What is to be drawn, from left to right."""
        points = [point for bunch in self._bunches for point in bunch]
        return points if not points or points[-1] == self.last else [*points, self.last]


def _extremes(points: list[Point]) -> list[Point]:
    low, high = min(points, key=lambda point: point[-1]), max(points, key=lambda point: point[-1])
    return sorted({low, high})
