"""Run folders that are carried: what changes arrives as it is, whole; and what a worker is given of a node."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from trainkit import Job, MachineError, UsageError
from trainkit_ray import carried
from trainkit_ray.address import address_of
from trainkit_ray.carried import Piece, Receiver, Sender, everything, in_messages, send
from trainkit_ray.deaths import LIVES, STARTS, Deaths
from trainkit_ray.share import Share


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_folders_become_alike_however_files_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, "PIECE", 50)
    here, there = tmp_path / "here", tmp_path / "there"
    newest = here / "checkpoints" / "step-000000000001"
    newest.mkdir(parents=True)
    (newest / "tensors.safetensors").write_bytes(os.urandom(333))
    (newest / "MANIFEST").write_bytes(b"")
    (here / "metrics.jsonl").write_text("first\n" * 30)
    (here / ".lock").touch()
    (here / "checkpoints" / ".tmp-2-9-0").mkdir()
    (here / "link").symlink_to("/etc/hostname")
    sender, receiver = Sender(here), Receiver(there)
    messages: list[list[Piece]] = []

    def put(message: list[Piece]) -> None:
        messages.append(message)
        for piece in message:
            receiver.take(piece)

    def changed(pieces: int) -> None:
        messages.clear()
        send(sender, put)
        left_out = {".lock", "link"}
        assert {name: held for name, held in tree(here).items() if name not in left_out} == tree(there)
        assert sum(map(len, messages)) == pieces
        assert all(sum(len(piece.data or b"") for piece in message) < 100 for message in messages)

    changed(4 + 7 + 1 + 1)
    changed(0)
    with open(here / "metrics.jsonl", "a") as file:
        file.write("next\n")
    changed(1)
    os.truncate(here / "metrics.jsonl", 120)
    changed(3)
    with open(here / "metrics.jsonl", "r+") as file:  # cut, and grown beyond where it was
        file.truncate(60)
        file.seek(60)
        file.write("other\n" * 12)
    changed(3)
    (here / "report.new").write_text("x" * 200)  # longer than the lines, and with their beginning
    os.replace(here / "report.new", here / "metrics.jsonl")
    changed(4)
    shutil.move(newest, here / "checkpoints" / "step-000000000002")
    os.unlink(here / "metrics.jsonl")
    changed(9 + 2)
    other = Receiver(tmp_path / "other")
    for message in in_messages(everything(here)):
        for piece in message:
            other.take(piece)
    assert tree(other.folder) == tree(there)


def test_a_checkpoint_appears_when_all_of_it_is_there(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    folder = here / "checkpoints" / "step-000000000001"
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        (folder / name).write_text(name)
    receiver = Receiver(there, durable=True)
    seen = []
    for piece in everything(here):
        receiver.take(piece)
        seen.append((there / "checkpoints" / folder.name).exists())
    assert seen == [False, False, True]
    receiver.take(Piece(f"checkpoints/{folder.name}/a", b"half"))
    receiver.close()
    assert tree(there) == tree(here)
    # Its files are written over for another one while they are read: it never appears.
    pieces = Sender(here).pieces()
    first = next(pieces)
    (folder / "b").write_text("written over")
    rest = list(pieces)
    assert first.name.endswith("/a")
    assert not any(piece.files for piece in rest)


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "a/../../b", ""])
def test_no_piece_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="no name within a run folder"):
        Receiver(tmp_path / "run").take(Piece(name, b"x"))


@pytest.mark.parametrize("name", ["metrics.jsonl", ".report.json.carried.tmp"])
def test_nothing_is_written_through_a_link_that_a_strangers_folder_has(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("as it was")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(outside)
    anew = name.startswith(".")
    with pytest.raises(OSError, match="symbolic links"):
        Receiver(tmp_path / "run").take(Piece("report.json" if anew else name, b"x", anew=anew))
    assert outside.read_text() == "as it was"


def test_what_a_killed_process_has_left_is_no_part_of_a_checkpoint(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("step-000000000001", "step-000000000002"):
        Receiver(tmp_path / "run").take(Piece(f"checkpoints/{name}/old", b"half"))
    (tmp_path / "run" / "checkpoints" / ".tmp-carried-step-000000000003").symlink_to(outside)
    receiver = Receiver(tmp_path / "run")
    for number in (1, 3):
        receiver.take(Piece(f"checkpoints/step-00000000000{number}/new", b"x"))
        receiver.take(Piece(f"checkpoints/step-00000000000{number}", files=True))
    checkpoints = ("run/checkpoints/step-000000000001/new", "run/checkpoints/step-000000000003/new")
    assert tree(tmp_path) == dict.fromkeys(checkpoints, b"x")


def test_a_worker_is_given_what_all_processes_of_a_run_need() -> None:
    text = '[run]\nduration = "4ep"\ndevice = "{}"\nthreads = 3\nprocesses = 4\n\n[data]\nprocesses = 9\n'
    share = Share().settled(text.format("cpu"), True)
    assert Share.processes(text) == 4
    assert Share.processes(text.replace("processes = 4\n", "")) == 1
    assert share.options(4) == {"num_cpus": 12.0, "num_gpus": 0.0}
    assert share.threads == 3
    assert Share().settled(text.format("auto"), True).options(4)["num_gpus"] == 4
    assert Share().settled(text.format("auto"), False).options(4)["num_gpus"] == 0
    assert Share().settled(text.format("cuda"), False).options(1)["num_gpus"] == 1
    assert Share(gpus=0).settled(text.format("cuda"), True).options(4)["num_gpus"] == 0
    assert Share(gpus=0.5).settled(text.format("cuda"), True).options(3)["num_gpus"] == 2
    assert Share(cpus=2.5, memory=0.5).settled(text, True).options(2)["memory"] == 1 << 30
    node = {"CPU": 16.0, "GPU": 1.0, "memory": float(3 << 30)}
    assert Share(cpus=1, gpus=0.25, memory=1.0).fits(node, 1) == 3
    assert Share(cpus=1, gpus=0.25).fits(node, 2) == 2
    assert Share(cpus=1, gpus=1).fits(node, 2) == 0
    assert Share(cpus=1, gpus=0.5, memory=2.0).text(2) == "2 cores and 1 GPUs, 4 GiB"


def test_a_job_whose_node_dies_goes_on_unless_it_gets_nowhere(tmp_path: Path) -> None:
    said: list[str] = []
    deaths = Deaths(said.append)
    job = Job(3, 0, "", tmp_path / "0003", timeout=5.0)
    node = RuntimeError("The actor died because its node has died.")

    def outcome(error: Exception, late: bool = False, unreachable: bool = False) -> str:
        found = deaths.of(job, 1.0, error, late, unreachable)
        return "" if found is None else found.status

    assert outcome(RuntimeError("The worker process died: OOM killer, SIGKILL")) == "killed"
    assert outcome(RuntimeError("killed due to the node running low on memory")) == "oom"
    assert outcome(node, late=True) == "timeout"
    assert [outcome(node) for _ in range(LIVES)] == [""] * LIVES
    assert outcome(node) == "killed"
    (job.folder / "checkpoints" / "step-000000000007").mkdir(parents=True)
    assert outcome(RuntimeError("no message"), unreachable=True) == ""
    assert said == ["a node of the Ray cluster is gone; trial 3 goes on elsewhere from its newest checkpoint"] * 4
    deaths.before_it_began(node)
    for _ in range(STARTS - 1):
        deaths.before_it_began(RuntimeError("cause: no module"))
    with pytest.raises(MachineError, match="end before they have begun: cause: no module\n  every node needs trainkit"):
        deaths.before_it_began(RuntimeError("cause: no module"))


def test_which_cluster_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_of("auto", "") == "auto"
    assert address_of("local", "") == "local"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert address_of("auto", "") == address_of("auto", "auto") == "10.0.0.1:6379"
    assert address_of("local", "") == address_of("auto", "local") == "local"
    assert address_of("local", "ray://head:10001") == "ray://head:10001"
    assert address_of("local", "[::1]:6379") == "[::1]:6379"
    for wrong in ("head", "ray://head", "http://head:80", "head:0", "head:99999", "head:port", "ray://head:1/x"):
        with pytest.raises(UsageError, match="it is no address of a Ray cluster\n  write ray://HOST:10001"):
            address_of("auto", wrong)
