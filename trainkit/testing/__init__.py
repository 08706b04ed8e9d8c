"""For authors of plugins: contracts that every component keeps, and fixtures that train in a moment.

``pytest --trainkit-contracts`` holds the components of the project one stands in to their contracts, without a line of
test code. A test module may also take a contract by hand, to add behaviour of its own::

    from trainkit.testing import ScheduleContract

    class TestTriangle(ScheduleContract):
        component = Component("schedule", triangle, example={"peak": 0.2})

        def test_reaches_its_peak(self): ...

Each name is imported when it is first used: pytest loads the plugin in every project of an environment.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from trainkit.testing.contract import Contract as Contract
    from trainkit.testing.contract import contract_names as contract_names
    from trainkit.testing.contracts.augmentation import AugmentationContract as AugmentationContract
    from trainkit.testing.contracts.callback import CallbackContract as CallbackContract
    from trainkit.testing.contracts.data import DataContract as DataContract
    from trainkit.testing.contracts.ensembler import EnsemblerContract as EnsemblerContract
    from trainkit.testing.contracts.every import FactoryContract as FactoryContract
    from trainkit.testing.contracts.every import PluginContract as PluginContract
    from trainkit.testing.contracts.every import SignatureContract as SignatureContract
    from trainkit.testing.contracts.executor import ExecutorContract as ExecutorContract
    from trainkit.testing.contracts.logger import LoggerContract as LoggerContract
    from trainkit.testing.contracts.loss import LossContract as LossContract
    from trainkit.testing.contracts.metric import MetricContract as MetricContract
    from trainkit.testing.contracts.model import ModelContract as ModelContract
    from trainkit.testing.contracts.optimizer import OptimizerContract as OptimizerContract
    from trainkit.testing.contracts.reaction import ReactionContract as ReactionContract
    from trainkit.testing.contracts.schedule import ScheduleContract as ScheduleContract
    from trainkit.testing.contracts.searcher import SearcherContract as SearcherContract
    from trainkit.testing.contracts.wrapper import WrapperContract as WrapperContract
    from trainkit.testing.members import TinyWorkshop as TinyWorkshop
    from trainkit.testing.members import tiny_members as tiny_members
    from trainkit.testing.members import validation_of as validation_of
    from trainkit.testing.simulated import Simulated as Simulated
    from trainkit.testing.simulated import simulate as simulate
    from trainkit.testing.tiny import TinyRun as TinyRun

_MODULES = {
    "contract": ("Contract", "contract_names"),
    "contracts.augmentation": ("AugmentationContract",),
    "contracts.callback": ("CallbackContract",),
    "contracts.data": ("DataContract",),
    "contracts.ensembler": ("EnsemblerContract",),
    "contracts.every": ("FactoryContract", "PluginContract", "SignatureContract"),
    "contracts.executor": ("ExecutorContract",),
    "contracts.logger": ("LoggerContract",),
    "contracts.loss": ("LossContract",),
    "contracts.metric": ("MetricContract",),
    "contracts.model": ("ModelContract",),
    "contracts.optimizer": ("OptimizerContract",),
    "contracts.reaction": ("ReactionContract",),
    "contracts.schedule": ("ScheduleContract",),
    "contracts.searcher": ("SearcherContract",),
    "contracts.wrapper": ("WrapperContract",),
    "members": ("TinyWorkshop", "tiny_members", "validation_of"),
    "simulated": ("Simulated", "simulate"),
    "tiny": ("TinyRun",),
}
_HOMES = {name: f"trainkit.testing.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    "AugmentationContract",
    "CallbackContract",
    "Contract",
    "DataContract",
    "EnsemblerContract",
    "ExecutorContract",
    "FactoryContract",
    "LoggerContract",
    "LossContract",
    "MetricContract",
    "ModelContract",
    "OptimizerContract",
    "PluginContract",
    "ReactionContract",
    "ScheduleContract",
    "SearcherContract",
    "SignatureContract",
    "Simulated",
    "TinyRun",
    "TinyWorkshop",
    "WrapperContract",
    "contract_names",
    "simulate",
    "tiny_members",
    "validation_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainkit.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
