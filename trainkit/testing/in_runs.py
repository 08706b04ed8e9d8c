"""What whole runs must be with any component that takes part in training."""

from __future__ import annotations

from trainkit.component import Component
from trainkit.testing.contract import Contract
from trainkit.testing.whole import again, interrupted, straight


class InRunsContract(Contract):
    """Base of the contracts of kinds that act while a run trains."""

    def test_resumes_bit_for_bit(self, component: Component) -> None:
        """A run that is stopped, saved, loaded and continued, several times, equals one in one go, bit for bit."""
        difference = straight(component).difference(interrupted(component))
        assert not difference, (
            f"{component.kind} '{component.name}': a run that was stopped and continued differs from one in one go: "
            f"{difference}; keep what it needs for its next call where checkpoints hold it: {_WHERE[component.kind]}"
        )

    def test_gives_the_same_for_the_same_seed(self, component: Component) -> None:
        """Two runs of one recipe with one seed are the same, bit for bit."""
        difference = straight(component).difference(again(component))
        assert not difference, (
            f"{component.kind} '{component.name}': a second run of the same recipe is another one: {difference}; draw "
            "random numbers from torch's own generator or one made of the seed, never from the clock or the system"
        )

    def test_prints_nothing(self, component: Component) -> None:
        """Standard output is for what a command gives: what a component has to say goes through ``run.say``."""
        printed = straight(component).printed
        assert not printed, (
            f"{component.kind} '{component.name}': it prints {printed.strip()[:80]!r} while it trains; say it by "
            "run.say(text), or to standard error"
        )


_HOOKS = "give it by trainkit_save and take it back by trainkit_restore"
_WHERE = {
    "optimizer": f"in self.state[parameter] or the groups; or {_HOOKS}",
    "wrapper": f"in self.state[parameter] under a name of its slots, or in the groups; or {_HOOKS}",
    "reaction": "give it by save and take it back by restore",
    "callback": _HOOKS,
}
