"""Where torch's elastic agent and its processes meet if there is one agent: at a store on this machine, for it alone.

torch's own ways to meet listen to other machines, and that for many agents unpickles what it finds in the store.
"""

from __future__ import annotations

import uuid
from typing import Any

from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from trainkit.distributed.addresses import open_store

HOST = "127.0.0.1"


class OneAgent(RendezvousHandler):
    """Every meeting is of the one agent that is there.

    Source: https://docs.pytorch.org/docs/stable/elastic/rendezvous.html
    """

    def __init__(self) -> None:
        self._store: Any = open_store(HOST, 0)  # as long as the agent lives, so that processes leave notes in it
        self._run = str(uuid.uuid4())

    def get_backend(self) -> str:
        """What kind of meeting this is."""
        return "trainkit"

    @property
    def use_agent_store(self) -> bool:
        """The processes meet at the same store."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Meet; so again whenever the processes are started again."""
        return RendezvousInfo(self._store, 0, 1, RendezvousStoreInfo(HOST, self._store.port))

    def is_closed(self) -> bool:
        """Nobody else ever closes it."""
        return False

    def set_closed(self) -> None:
        """There is nobody who would have to know."""

    def num_nodes_waiting(self) -> int:
        """No other agent ever comes."""
        return 0

    def get_run_id(self) -> str:
        """A name for all that the agent starts."""
        return self._run

    def shutdown(self) -> bool:
        """The store ends with this object."""
        return True
