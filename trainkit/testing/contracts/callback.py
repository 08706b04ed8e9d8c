"""What every callback keeps: the run goes on as if it had never been stopped, and is disturbed in no other way."""

from __future__ import annotations

import pytest

from trainkit.component import Component
from trainkit.testing.in_runs import InRunsContract
from trainkit.testing.whole import plain, several_at_once, straight, untouched

AT_ONCE = 3  # updates


class CallbackContract(InRunsContract):
    """A callback acts by its hooks, on the run that names it."""

    kind = "callback"

    def test_says_whether_it_keeps_state(self, component: Component) -> None:
        """One that sees the training saves its state and takes it back, or says that it has none."""
        lost = [label for label in straight(component).seen.mute if label.startswith("callback.")]
        assert not lost, (
            f"{_said(component)}: it follows the training, and a run could not be continued with it; implement "
            "trainkit_save and trainkit_restore, or write stateless = True where it keeps nothing"
        )

    def test_leaves_weights_as_evaluations_found_them(self, component: Component) -> None:
        """Whatever is measured in their place, weights and buffers are the same before an evaluation and after it."""
        moved = straight(component).seen.moved
        assert not moved, (
            f"{_said(component)}: an evaluation changes {moved}, so that the run depends on how often it is measured; "
            "put back what was there, for example by trainkit.exchanged"
        )

    def test_changes_nothing_where_it_is_not_named(self, component: Component) -> None:
        """A run whose recipe does not name it is the same after it has had one: nothing of it stays in the process."""
        before = untouched()
        straight(component)
        difference = before.difference(plain())
        assert not difference, (
            f"{_said(component)}: after its run, one that does not name it is another one: {difference}; act through "
            "hooks alone, and change nothing that all runs of a process share"
        )

    def test_sees_updates_as_declared(self, component: Component) -> None:
        """Not declared ``every_update``, it makes the same run where it is called after several updates at once."""
        if component.capabilities.get("every_update"):
            pytest.skip("it declares every_update: it is called after every single one")
        difference = straight(component).difference(several_at_once(component, AT_ONCE))
        assert not difference, (
            f"{_said(component)}: called after {AT_ONCE} updates at once, as in a compiled step, it makes another run: "
            f"{difference}; declare every_update"
        )


def _said(component: Component) -> str:
    return f"callback '{component.name}'"
