"""What an ensembler is asked for, and who is to blame where it fails or gives something else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from trainkit.ensembler import Ensembler, Member, Validation, Workshop
from trainkit.errors import OutOfMemory, PluginDefect, TrainkitError
from trainkit.manager import Plugins
from trainkit.microbatch import out_of_memory
from trainkit.recipe import Recipe

_T = TypeVar("_T")


class Asking:
    """An ensembler whose errors name it.

    Args:
        recipe: the recipe whose ``[ensemble]`` it is.
        plugins: the plugins of this process.
        ensembler: the ensembler.
    """

    def __init__(self, recipe: Recipe, plugins: Plugins, ensembler: Ensembler) -> None:
        self.plugins = plugins
        self.component = recipe.components["ensemble",]
        self.name = f"[ensemble] {self.component.name}"
        self.ensembler = ensembler

    def gather(self, workshop: Workshop) -> list[Member]:
        """Its members."""
        what = f"{self.name} in gather"
        members = self._ask(what, lambda: self.ensembler.gather(workshop))
        found = self._members(what, members)
        if not found:
            raise self._defect(what, "gave no member")
        return found

    def fit(self, members: Sequence[Member], validation: Callable[[], Validation]) -> None:
        """Let it take the members in and decide."""
        for member in members:
            self._ask(f"{self.name} in add", lambda member=member: self.ensembler.add(member))  # type: ignore[misc]
        given = validation()
        self._ask(f"{self.name} in fit", lambda: self.ensembler.fit(given))

    def members(self) -> list[Member]:
        """The members that it predicts with."""
        what = f"{self.name} in members"
        found = self._members(what, self._ask(what, self.ensembler.members))
        if not found:
            raise self._defect(what, "gave no member")
        return found

    def predicting(self, call: Callable[[], _T]) -> _T:
        """What depends on what it predicts."""
        return self._ask(f"{self.name} in predict", call)

    def defect(self, method: str, said: str) -> PluginDefect:
        """What is wrong with what a method of it gave."""
        return self._defect(f"{self.name} in {method}", said)

    def _members(self, what: str, members: Any) -> list[Member]:
        wrong = next((one for one in members if not isinstance(one, Member)), None) if _is_list(members) else members
        if not _is_list(members) or wrong is not None:
            raise self._defect(what, f"gave {type(wrong).__name__} where a member was to be")
        found: list[Member] = list(members)
        names = [member.name for member in found]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise self._defect(what, f"gave several members of one name: {', '.join(twice[:5])}")
        return found

    def _ask(self, what: str, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except TrainkitError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise OutOfMemory(f"out of memory in {what}: {(str(error) or 'no message').splitlines()[0]}") from error
            owner = self.plugins.owner(self.component)
            raise self.plugins.blame(error, what) or PluginDefect(
                f"{owner} in {what}: {type(error).__name__}: {error}"
            ) from error

    def _defect(self, what: str, said: str) -> PluginDefect:
        return PluginDefect(f"{self.plugins.owner(self.component)} in {what}: {said}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
