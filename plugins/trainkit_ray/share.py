"""What of a node each worker is given: for every process of the runs that it trains."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

# In a filled recipe each table has its own lines behind its name.
_PROCESSES = re.compile(r"^\[run\]$(?:\n(?!\[).*)*?\nprocesses = (\d+)$", re.MULTILINE)
_THREADS = re.compile(r"^\[run\]$(?:\n(?!\[).*)*?\nthreads = (\d+)$", re.MULTILINE)
_DEVICE = re.compile(r'^\[run\]$(?:\n(?!\[).*)*?\ndevice = "(\w+)"$', re.MULTILINE)
GIB = 1 << 30


@dataclass(frozen=True)
class Share:
    """Means of a node for one process.

    Args:
        cpus: cores; ``None``: as many as the recipe says threads, else one.
        gpus: GPUs; ``None``: one where the recipe's device is one or may be, and the cluster has any.
        memory: GiB; ``None`` reserves none.
    """

    cpus: float | None = None
    gpus: float | None = None
    memory: float | None = None

    def settled(self, recipe: str, has_gpus: bool) -> Share:
        """What is meant where a recipe is trained.

        Args:
            recipe: the recipe, filled.
            has_gpus: whether any node has a GPU.
        """
        threads, device = _THREADS.search(recipe), _DEVICE.search(recipe)
        cpus = self.cpus or (float(threads[1]) if threads else 1.0)
        wanted = device[1] if device else "cpu"
        gpus = 1.0 if wanted == "cuda" or (wanted == "auto" and has_gpus) else 0.0
        return dataclasses.replace(self, cpus=cpus, gpus=gpus if self.gpus is None else self.gpus)

    @staticmethod
    def processes(recipe: str) -> int:
        """Of how many processes a run is."""
        found = _PROCESSES.search(recipe)
        return max(1, int(found[1])) if found else 1

    @property
    def threads(self) -> int:
        """Threads of torch where the recipe says none."""
        return max(1, int(self.cpus or 1.0))

    def options(self, processes: int) -> dict[str, Any]:
        """What a worker is begun with."""
        wanted: dict[str, Any] = {
            "num_cpus": (self.cpus or 1.0) * processes,
            "num_gpus": (self.gpus or 0.0) * processes,
        }
        if wanted["num_gpus"] > 1:
            wanted["num_gpus"] = math.ceil(wanted["num_gpus"])  # beyond one Ray gives whole ones alone
        if self.memory:
            wanted["memory"] = int(self.memory * GIB * processes)
        return wanted

    def fits(self, node: dict[str, float], processes: int) -> int:
        """How many workers a node has room for."""
        wanted = self.options(processes)
        names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
        pairs = [(node.get(name, 0.0), wanted.get(option, 0)) for name, option in names.items()]
        return min(int(held / asked + 1e-9) for held, asked in pairs if asked)

    def text(self, processes: int) -> str:
        """In words, such as ``4 cores and 0 GPUs``."""
        wanted = self.options(processes)
        memory = f", {wanted['memory'] / GIB:g} GiB" if "memory" in wanted else ""
        return f"{wanted['num_cpus']:g} cores and {wanted['num_gpus']:g} GPUs{memory}"
