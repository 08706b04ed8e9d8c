"""Processes find each other, and begin only if all are there with the same recipe and versions."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainkit.distributed.addresses import is_loopback, open_store, within
from trainkit.distributed.group import PeerLost
from trainkit.distributed.joining import check_nccl, group_timeout, join
from trainkit.distributed.lifeline import Lifeline, Line, Lost
from trainkit.distributed.meeting import Card, Meeting, Met, difference, flat
from trainkit.errors import MachineError, TrainkitError, UsageError

HOST = "127.0.0.1"
CARD: Card = {"recipe": {"optimizer.lr": 0.1, "seed": 1}, "versions": {"version of torch": "2"}}


@pytest.fixture(autouse=True)
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give back all connections; a process does so by ending."""
    made: list[Line] = []
    make = Line.__init__

    def making(line: Line, connection: socket.socket) -> None:
        make(line, connection)
        made.append(line)

    monkeypatch.setattr(Line, "__init__", making)
    yield
    for line in made:
        line.close()


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def meet(cards: dict[int, Card], size: int, seconds: float = 20.0, numbers: dict[int, int] | None = None) -> list[Any]:
    """What each process that comes gets: what it has met, or its error."""
    store: Any = open_store(HOST, 0)
    found: dict[int, Any] = {}

    def come(name: int, rank: int, card: Card) -> None:
        try:
            found[name] = Meeting(rank, size, HOST, store.port, rank != 0, seconds, card).meet(
                store if rank == 0 else None
            )
        except TrainkitError as error:
            found[name] = error

    threads = [
        threading.Thread(target=come, args=(name, (numbers or {}).get(name, name), card))
        for name, card in cards.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [found[name] for name in cards]


def test_all_meet_each_with_a_line_to_the_first_one_and_a_store_of_their_own():
    first, second, third = meet({0: CARD, 1: CARD, 2: CARD}, 3)
    assert sorted(first.lines) == [1, 2]
    assert sorted(second.lines) == sorted(third.lines) == [0]
    first.store.set("said", "hello")
    assert third.store.get("said") == b"hello"
    first.lines[2].send({"to": "third"})
    assert third.lines[0].receive() == [{"to": "third"}]


def test_another_recipe_is_refused_by_all_with_the_process_and_the_key():
    other = {**CARD, "recipe": {"optimizer.lr": 0.2, "seed": 1}}
    told = meet({0: CARD, 1: CARD, 2: other}, 3)
    assert {type(error) for error in told} == {UsageError}
    assert {str(error).splitlines()[0] for error in told} == {
        "process 2 has another recipe than process 0: optimizer.lr is 0.2 there and 0.1 here"
    }


def test_other_versions_are_the_machine_s_fault():
    told = meet({0: CARD, 1: {**CARD, "versions": {"version of torch": "3"}}}, 2)
    assert {type(error) for error in told} == {MachineError}
    assert str(told[1]).startswith('process 1 runs with another version of torch than process 0: "3" there and "2"')


def test_who_does_not_come_is_named_to_all_with_the_time_and_how_to_change_it():
    told = meet({0: CARD, 2: CARD}, 4, seconds=1.0)
    assert {str(error) for error in told} == {
        "processes 1, 3 of 4 have not arrived within 1 s\n  see that all of them were started and reach this machine; "
        "TRAINKIT_GROUP_TIMEOUT sets another number of seconds"
    }


def test_a_first_process_that_does_not_come_is_named():
    with pytest.raises(MachineError, match=r"process 1 of 2 found nobody at 127\.0\.0\.1:.* within 0\.3 s"):
        Meeting(1, 2, HOST, free_port(), True, 0.3, CARD).meet()


def test_two_processes_with_one_rank_are_refused():
    told = meet({0: CARD, 1: CARD, 2: CARD}, 3, numbers={2: 1})
    assert "there are two processes 1 of 3" in str(told[0])


def test_a_port_in_use_is_named():
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(MachineError, match=re.escape(f"127.0.0.1:{port}: the port is in use\n  name another port")):
            Meeting(0, 2, HOST, port, False, 5.0, CARD).meet()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's table of sockets is read")
@pytest.mark.parametrize("port", [0, None])
def test_a_store_for_one_machine_is_not_reached_from_another(port):
    store: Any = open_store(HOST, free_port() if port is None else port)
    tables = [Path(f"/proc/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    sockets = [line.split() for table in tables for line in table]
    listening = [local for _, local, _, state, *_ in sockets if state == "0A" and local.endswith(f":{store.port:04X}")]
    assert [local.partition(":")[0] for local in listening] == ["0100007F"]


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.0.1.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("n1", False)],
)
def test_a_machine_s_name_may_lead_others_to_it(host, alone):
    assert is_loopback(host) is alone


def test_gloo_listens_where_the_processes_meet(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with within("10.0.0.1"):
        assert "GLOO_SOCKET_IFNAME" not in os.environ
    with within(HOST):
        assert os.environ["GLOO_SOCKET_IFNAME"] in {"lo", "lo0"}
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    with within(HOST):
        assert os.environ["GLOO_SOCKET_IFNAME"] == "eth7"


def test_a_machine_whose_name_is_a_loopback_address_for_itself_is_met_by_the_name_that_others_have(monkeypatch):
    lookup = socket.getaddrinfo
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda host, *more, **named: lookup(HOST if host == "n1" else host, *more, **named)
    )
    store: Any = open_store(HOST, 0)
    found: list[Any] = []
    meeting = Meeting(1, 2, HOST, store.port, True, 20.0, CARD)
    thread = threading.Thread(target=lambda: found.append(meeting.meet()))
    thread.start()
    Meeting(0, 2, "n1", store.port, False, 20.0, CARD).meet(store)
    thread.join(20)
    assert json.loads(store.get("trainkit/lifeline"))[0] == ""
    assert sorted(found[0].lines) == [0]


def test_strangers_are_turned_away_and_cards_that_come_in_pieces_are_read(monkeypatch):
    monkeypatch.setattr("trainkit.distributed.meeting._GRACE_S", 2.0)
    store: Any = open_store(HOST, 0)
    found: list[Any] = []
    first = Meeting(0, 2, HOST, store.port, False, 30.0, CARD)
    thread = threading.Thread(target=lambda: found.append(first.meet(store)))
    thread.start()
    while not store.check(["trainkit/lifeline"]):  # waiting in `get` holds the other thread up
        time.sleep(0.01)
    address, port, token = json.loads(store.get("trainkit/lifeline"))
    for said in (b"\n", b"GET / HTTP/1.1\r\n", b"[" * 100_000 + b"\n", b'{"token":"guessed","rank":1,"size":2}\n', b""):
        with socket.create_connection((address, port)) as stranger:
            stranger.sendall(said)
    with socket.create_connection((address, port)) as other:
        text = json.dumps({"token": token, "rank": 1, "size": 2, "card": CARD}).encode() + b"\n"
        other.sendall(text[:30])
        time.sleep(0.1)
        other.sendall(text[30:])
        assert json.loads(other.recv(100)) == {"begin": token}
        thread.join(20)
        assert sorted(found[0].lines) == [1]


def test_an_address_of_an_attempt_before_is_tried_until_there_is_a_new_one():
    store: Any = open_store(HOST, 0)
    store.set("trainkit/lifeline", f'["{HOST}", {free_port()}, "old"]')
    found: list[Any] = []
    meeting = Meeting(1, 2, HOST, store.port, True, 20.0, CARD)
    thread = threading.Thread(target=lambda: found.append(meeting.meet()))
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    Meeting(0, 2, HOST, store.port, False, 20.0, CARD).meet(store)
    thread.join(20)
    assert sorted(found[0].lines) == [0]


def test_the_first_process_may_look_after_others_while_it_waits():
    def look() -> None:
        raise MachineError("process 1 has not even begun")

    store = open_store(HOST, 0)
    with pytest.raises(MachineError, match="not even begun"):
        Meeting(0, 2, HOST, 0, False, 20.0, CARD).meet(store, look)


def test_a_signal_s_exception_ends_the_wait_and_the_others_hear_of_it():
    store: Any = open_store(HOST, 0)
    found: list[Any] = []

    def come() -> None:
        try:
            Meeting(1, 3, HOST, store.port, True, 20.0, CARD).meet()
        except MachineError as error:
            found.append(error)

    thread = threading.Thread(target=come)
    thread.start()
    looked = [0]

    def look() -> None:
        looked[0] += 1
        if looked[0] > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Meeting(0, 3, HOST, store.port, False, 20.0, CARD).meet(store, look)
    thread.join(20)
    assert len(found) == 1
    assert "KeyboardInterrupt" in str(found[0])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ({"recipe": {"a": 1.0}}, None),
        ({"recipe": {"a": 2.0}}, ("recipe", "a", "1.0", "2.0")),
        ({"recipe": {"a": 1.0, "b": None}}, ("recipe", "b", "missing", "null")),
        ({"recipe": {}}, ("recipe", "a", "1.0", "missing")),
    ],
)
def test_the_first_difference_is_named(other, expected):
    assert difference({"recipe": {"a": 1.0}}, other) == expected


def test_tables_are_compared_by_dotted_keys():
    tables = {"run": {"duration": "2ep"}, "callback": [{"use": "ema", "skip": ["a", "b"]}], "metric": []}
    assert flat(tables) == {
        "run.duration": "2ep",
        "callback.0.use": "ema",
        "callback.0.skip": "['a', 'b']",
        "metric": "[]",
    }


ENVIRONMENT = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": HOST, "MASTER_PORT": "1"}


@pytest.mark.parametrize(
    ("error", "expected"), [(RuntimeError("no way to n2"), PeerLost), (KeyboardInterrupt(), KeyboardInterrupt)]
)
def test_what_cannot_begin_does_not_end_a_process_that_lives_on(monkeypatch, error, expected):
    ours, theirs = socket.socketpair()
    made: list[Lifeline] = []

    def lifeline(*given: Any) -> Lifeline:
        made.append(Lifeline(*given))
        return made[0]

    def begin(*given: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr("trainkit.distributed.joining._NEWS_S", 0.1)
    monkeypatch.setattr("trainkit.distributed.joining.Meeting.meet", lambda *given: Met(None, {1: Line(ours)}))
    monkeypatch.setattr("trainkit.distributed.joining.Lifeline", lifeline)
    monkeypatch.setattr("torch.distributed.init_process_group", begin)
    with pytest.raises(expected):
        join(environ=ENVIRONMENT)
    assert json.loads(theirs.recv(1000))["rank"] == 0
    theirs.close()
    made[0]._thread.join(10)
    assert made[0].lost() is None
    assert made[0]._timer is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MASTER_PORT": "here"}, "MASTER_PORT=here: "),
        ({"RANK": "2"}, "RANK=2: with WORLD_SIZE=2 ranks are from 0 to 1"),
        ({"TRAINKIT_GROUP_TIMEOUT": "soon"}, "TRAINKIT_GROUP_TIMEOUT=soon: it is the number of seconds"),
        ({"TRAINKIT_GROUP_TIMEOUT": "0"}, "TRAINKIT_GROUP_TIMEOUT=0: "),
    ],
)
def test_an_environment_that_names_no_group_is_refused(change, message):
    with pytest.raises(MachineError) as refused:
        join(environ=ENVIRONMENT | change)
    assert str(refused.value).startswith(message)


def test_the_time_to_wait_has_a_default():
    assert group_timeout({}) == 300.0
    assert group_timeout({"TRAINKIT_GROUP_TIMEOUT": "7.5"}) == 7.5


def test_one_process_joins_nothing():
    assert join(environ={"WORLD_SIZE": "1", "RANK": "0"}).size == 1


def test_a_torch_without_nccl_is_named(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: False)
    with pytest.raises(MachineError, match="built without NCCL"):
        check_nccl()


# ------------------------------------------------------------ lines


def lifelines(size: int) -> list[Lifeline]:
    """The lifelines of processes, all in this one."""
    pairs = {rank: socket.socketpair() for rank in range(1, size)}
    first = Lifeline(0, size, {rank: Line(ours) for rank, (ours, _) in pairs.items()})
    return [first, *(Lifeline(rank, size, {0: Line(theirs)}) for rank, (_, theirs) in pairs.items())]


def end(lifeline: Lifeline) -> None:
    """What the kernel does when a process ends."""
    for line in lifeline._lines.values():
        line.connection.shutdown(socket.SHUT_RDWR)


def test_all_hear_which_process_has_ended():
    first, second, third = lifelines(3)
    end(third)
    third.mute()
    assert first.lost(10) == second.lost(10) == Lost(2)
    assert Lost(2).told(3).startswith("process 2 of 3 has ended without a word")
    for one in (first, second):
        one.mute()


def test_last_words_are_the_cause():
    first, second, third = lifelines(3)
    second.failed("no room on the disk")
    end(second)
    second.mute()
    assert first.lost(10) == third.lost(10) == Lost(1, "no room on the disk")
    assert Lost(1, "no room").told(3) == "process 1 of 3 has failed: no room"
    for one in (first, third):
        one.mute()


def test_the_end_of_the_first_process_is_heard_by_all():
    first, second, third = lifelines(3)
    first.mute()
    end(first)
    assert second.lost(10) == third.lost(10) == Lost(0)
    for one in (second, third):
        one.mute()


def test_who_has_said_goodbye_is_not_missed():
    first, second = lifelines(2)
    second.leave()
    end(second)
    second.close()
    assert first.lost(0.2) is None
    first.leave()
    first.close()


def test_processes_end_together_the_first_one_first():
    first, second = lifelines(2)
    order: list[int] = []

    def ends(lifeline: Lifeline) -> None:
        lifeline.end_together()
        order.append(lifeline.rank)
        end(lifeline)

    for one in (first, second):
        one.leave()
    threads = [threading.Thread(target=ends, args=(one,)) for one in (second, first)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert order == [0, 1]


def test_a_process_that_does_not_end_by_itself_is_ended(monkeypatch):
    ended = threading.Event()
    codes: list[int] = []
    monkeypatch.setattr("trainkit.distributed.lifeline.LEFT_S", 0.05)
    monkeypatch.setattr("os._exit", lambda code: (codes.append(code), ended.set()))
    first, second = lifelines(2)
    second.mute()
    said: list[str] = []
    first.at_end = said.append
    end(second)
    assert ended.wait(10)
    assert codes == [4]
    assert said == [Lost(1).told(2)]


def test_whoever_started_a_process_is_not_outlived(monkeypatch):
    stopped = threading.Event()
    sent: list[Any] = []
    monkeypatch.setattr("trainkit.distributed.lifeline._LOOK_S", 0.01)
    monkeypatch.setattr("os.kill", lambda pid, number: (sent.append((pid, number)), stopped.set()))
    ours, theirs = socket.socketpair()
    line = Lifeline(1, 2, {0: Line(theirs)}, parent=1)  # another one than that of this process
    assert stopped.wait(10)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    line.mute()
    ours.close()
