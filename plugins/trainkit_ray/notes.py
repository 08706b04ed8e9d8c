"""What the user is told of a cluster while it works: once each, not again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainkit import Site

SCARCE_S = 30.0  # seconds without room for a worker after which that is said


class Notes:
    """Says what a user should know.

    Args:
        site: where that is said.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._carries = False
        self._scarce = 0.0

    def carried(self, sees: bool) -> None:
        """A worker has begun.

        Args:
            sees: whether its node sees the folder.
        """
        self._scarce = 0.0
        if not sees and not self._carries:
            self._carries = True
            self._site.say(f"nodes of the Ray cluster do not see {self._site.folder}: run folders are sent to and fro")

    def waits(self, waits: bool) -> None:
        """Say, once for each time, that jobs wait for room on the cluster."""
        if not waits:
            self._scarce = 0.0
        elif not self._scarce:
            self._scarce = time.monotonic()
        elif 0 < self._scarce < time.monotonic() - SCARCE_S:
            self._scarce = float("inf")
            self._site.say("the Ray cluster has no room for a worker; what is left waits for a node that has")
