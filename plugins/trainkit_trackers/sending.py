"""A thread that talks to a service, so that a run never waits for it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Sender:
    """Makes calls one after another in a thread of its own.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def send(self, call: Callable[[], None]) -> None:
        """Have a call made when those before it are.

        Raises:
            BaseException: what an earlier one raised; none is made after it.
        """
        if self._error is not None:
            raise self._error
        self._calls.put(call)

    def close(self, patience: float) -> None:
        """Come back when all calls are made.

        Args:
            patience: seconds after which to leave the thread alone; it ends with the process.

        Raises:
            TimeoutError: if calls are left.
            BaseException: what one of them raised.
        """
        self._calls.put(None)
        self._thread.join(patience)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError(f"no answer in {patience:g} s, and the run does not wait for it longer")

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._error is None:
                try:
                    call()
                except BaseException as error:  # the run is told when it comes by
                    self._error = error
