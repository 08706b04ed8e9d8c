"""What the processes of a group tell each other, and how it is said where one of them does not."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor

from trainkit.distributed import Group, PeerLost
from trainkit.errors import RunError


def test_a_process_that_is_gone_is_told_from_one_that_is_busy() -> None:
    """Of several that have failed, what is no consequence of another's end is the cause and is shown."""
    group = Group(0, 2)
    said = "[pair.cc:553] Connection closed by peer [127.0.0.1]:2996"
    with pytest.raises(PeerLost, match="Connection closed by peer"), group.together():
        raise RuntimeError(said)
    for said in ("Timed out waiting 8000ms for recv operation", "Watchdog caught collective operation timeout"):
        with (
            pytest.raises(RunError, match=r"not answered in time.*\n.*TRAINKIT_GROUP_TIMEOUT") as found,
            group.together(),
        ):
            raise RuntimeError(said)
        assert not isinstance(found.value, PeerLost)


def test_who_waits_for_data_waits_longer_than_for_other_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first download takes as long as it takes: the time-out is for what all do at once."""
    waited: list[timedelta] = []

    class Everyone:
        def allreduce(self, tensors: list[Tensor], options: Any) -> Everyone:
            waited.append(options.timeout)
            return self

        def wait(self) -> None:
            order.append("waited")

    order: list[str] = []
    monkeypatch.setattr("torch.distributed.group", SimpleNamespace(WORLD=Everyone()))
    for local_rank, expected in ((0, ["read", "waited", "waited"]), (1, ["waited", "read", "waited"])):
        order.clear()
        with Group(local_rank, 2, local_rank, 2).one_after_the_other():
            order.append("read")
        assert order == expected
    assert set(waited) == {timedelta(days=7)}
