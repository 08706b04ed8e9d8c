"""Every component of trainkit keeps the contracts of its kind: those that authors of plugins are given."""

from __future__ import annotations

from trainkit.testing.contract import contract_classes

for _contract in contract_classes():
    globals()[f"Test{_contract.__name__}"] = type(f"Test{_contract.__name__}", (_contract,), {})
