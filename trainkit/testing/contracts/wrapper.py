"""What every wrapper keeps: all that optimizers do, and what the core relies on in an optimizer around another."""

from __future__ import annotations

from typing import Any

from trainkit.component import Component
from trainkit.testing.contracts.optimizer import OptimizerContract, said
from trainkit.testing.updates import PATIENT, Bench


class WrapperContract(OptimizerContract):
    """A wrapper is an optimizer: with the groups of the one inside, and with state under names of its own."""

    kind = "wrapper"

    def test_has_the_groups_of_the_optimizer_inside(self, component: Component) -> None:
        """Its groups are those of the optimizer that it was given, so that schedules and logs reach that one."""
        bench = Bench.of(component)
        inside = {id(group) for group in bench.inside.param_groups}
        assert {id(group) for group in bench.optimizer.param_groups} == inside, (
            f"{said(component)}: its param_groups are not those of the optimizer that it wraps, so that a schedule "
            "sets numbers that nobody reads; derive it from trainkit.OptimizerWrapper, or hand on its param_groups"
        )

    def test_hides_its_state_from_the_optimizer_inside(self, component: Component) -> None:
        """The optimizer inside never meets what the wrapper keeps of a parameter, which it would take for its own."""
        alone, bench = Bench.inside_alone(component), Bench.of(component)
        alone.advance(range(PATIENT))
        known = {name for state in alone.optimizer.state.values() for name in state}
        inside: Any = bench.inside
        step = inside.step

        def looking(*arguments: Any) -> Any:
            met = {name for state in inside.state.values() for name in state}
            assert met <= known, (
                f"the optimizer inside meets the wrapper's {', '.join(sorted(met - known))} in the state of a "
                "parameter; name it in slots, and make the inner update by self.inner_step(closure)"
            )
            return step(*arguments)

        inside.step = looking
        bench.advance(range(PATIENT))
