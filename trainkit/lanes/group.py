"""Runs of one structure that are trained in lockstep: one update of each a turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainkit.dataset import Batch
from trainkit.lanes.lane import Lane
from trainkit.lanes.member import Batches, Member, evaluate_ahead
from trainkit.lanes.probe import one_line
from trainkit.lanes.stack import Stack
from trainkit.lanes.stretch import Stretches


class Group:
    """Some runs in a stack, and those that wait for a place in it.

    All runs of a stack are at the same batch of their epochs, whichever epoch that is: batches then have one size, and
    runs of one order share them. A run that comes later waits until the others are where it stands, which is the
    beginning of an epoch mostly.

    Where the stack fails, each run goes on by itself for a while. If one of them fails by itself too, it was to blame,
    and the others are trained together again.

    Args:
        most: runs in the stack at the most.
        say: tells the user something, once.
        make: makes the stack of some lanes.
    """

    def __init__(self, most: int, say: Callable[[str], None], make: Callable[[Sequence[Lane]], Stack] = Stack) -> None:
        self.most = most
        self.waiting: list[Member] = []
        self._say = say
        self._make = make
        self._places: list[Member | None] = []
        self._stack: Stack | None = None
        self._batches = Batches()
        self._stretches = Stretches()
        self._apart = False  # whether the stack has failed, and every run makes its own updates
        self._suspects: list[Member] = []  # those of them that have made none yet

    @property
    def members(self) -> list[Member]:
        """Those in the stack, by place."""
        return [member for member in self._places if member is not None]

    @property
    def everyone(self) -> list[Member]:
        """Those in the stack and those that wait."""
        return [*self.members, *self.waiting]

    def work(self) -> list[Member]:
        """Train until something is due for somebody, and do that; give those that have come to rest."""
        stopped = [member for member in self.waiting if member.run.stop_reason is not None]
        if stopped:
            return self._one_by_one(stopped)
        if self._apart or self.most == 1 or len(self.everyone) == 1:
            # Alone it needs no stack, whose numbers are rounded in other places.
            self._leave()
            return self._find_out() if self._suspects else self._one_by_one(self.waiting[:1])
        due: list[tuple[Member, BaseException | None]] = []
        try:
            self._fill()
            while not due:
                due = self._turn()
        except (Exception, SystemExit) as error:
            why = one_line(error)
        else:
            return self._proceed(due)
        # Not before the error is let go of, which holds all that the stack was computing with.
        self._give_up(why)
        return []

    def _one_by_one(self, members: list[Member]) -> list[Member]:
        for member in members:
            member.update_alone()
        self.waiting = [member for member in self.waiting if not member.rests]
        self._suspects = [member for member in self._suspects if not member.rests]
        return [member for member in members if member.rests]

    def _find_out(self) -> list[Member]:
        """Let a run go on by itself that was in the stack when that failed, to see whether it was to blame."""
        rested = self._one_by_one([self._suspects.pop(0)])
        if any(member.outcome is not None and member.outcome.status in ("error", "oom", "nan") for member in rested):
            self._apart, self._suspects = False, []
            self._say("a run that failed by itself too was to blame, and the others are trained together again")
        return rested

    def _fill(self) -> None:
        """Let those in that stand where the others are; into an empty stack, those that stand where most are."""
        members = self.members
        free = self.most - len(members)
        if free <= 0 or not self.waiting:
            return
        places = [member.run.batch_in_epoch for member in members or self.waiting]
        here = max(set(places), key=lambda place: (places.count(place), -place))
        for member in [member for member in self.waiting if member.run.batch_in_epoch == here][:free]:
            assert member.lane is not None
            place = self._places.index(None) if None in self._places else len(self._places)
            if self._stack is None:
                self._stack = self._make([member.lane])
            else:
                self._stack.put(place, member.lane)
            self._places[place : place + 1] = [member]
            self.waiting.remove(member)

    def _take(self, member: Member) -> str:
        """Take a run out of the stack; say what went wrong with that: the stack is of no use then."""
        assert self._stack is not None
        place = self._places.index(member)
        self._places[place] = None
        try:
            self._stack.take(place)
        except Exception as error:
            return one_line(error)
        return ""

    def _leave(self) -> None:
        """Take all runs out of the stack; they have tensors of their own again, and wait."""
        members = self.members
        self.waiting += members
        if any([self._take(member) for member in members]):
            # Memory is short: their tensors stay rows of the stack, which no other run may get.
            self._stack, self._places = None, []

    def _give_up(self, why: str) -> None:
        """Let every run make its own updates from here on."""
        self._say(f"runs cannot be trained together after all, and are trained one by one: {why}")
        self._apart, self._suspects = True, self.members
        self._leave()
        self._stack, self._places = None, []
        self._batches, self._stretches = Batches(), Stretches()

    def _turn(self) -> list[tuple[Member, BaseException | None]]:
        """Make updates of every run; give those for which something is due, with what went wrong.

        Raises:
            Exception: what the stack raised.
        """
        members = self.members
        assert self._stack is not None
        made = self._stretches.make(self._stack, members)
        if made is None:
            batches = self._batches.take(members)
            if any(isinstance(batch, BaseException) for batch in batches):
                self._batches.forget()  # the others begin anew where they stand
                failed = zip(members, batches, strict=True)
                return [(member, error) for member, error in failed if isinstance(error, BaseException)]
            results = self._stack.update([batch for batch in batches if isinstance(batch, Batch)])
        due: list[tuple[Member, BaseException | None]] = []
        for place, member in enumerate(members):
            try:
                if made is None:
                    is_due = member.took(results[place])
                else:
                    is_due = member.took_all(made.results[place], made.updates)
                if is_due:
                    due.append((member, None))
            except (Exception, SystemExit) as error:
                due.append((member, error))
        return due

    def _proceed(self, due: Sequence[tuple[Member, BaseException | None]]) -> list[Member]:
        """Do what is due; give those that have come to rest."""
        assert self._stack is not None
        evaluate_ahead(self._stack, self.members, [member for member, error in due if error is None])
        rested, why = [], ""
        for member, error in due:
            lane = member.lane
            member.proceed(error)
            if not member.rests and member.lane is lane:
                continue
            why = self._take(member) or why
            if not member.rests:  # it has gone back to a checkpoint, as a run that is built anew
                self.waiting.append(member)
            else:
                rested.append(member)
        if why:
            self._give_up(why)
        return rested
