"""Checkpoints: whole or refused, whatever happens to the files; readable by others; never a pickle."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from torch import nn

from trainkit import CheckpointError, MachineError, checkpoint, hookimpl, seeding

TENSORS = {
    "model/a": torch.arange(12.0).reshape(3, 4),
    "model/half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "optimizer/a/step": torch.tensor(7),
    "empty": torch.zeros(0, 3),
    "flag": torch.tensor([True, False]),
    "bytes": torch.tensor([0, 255], dtype=torch.uint8),
    "turned": torch.arange(6, dtype=torch.float64).reshape(2, 3).t(),
    "ünïcode/名": torch.ones(()),
}
STATE = {"step": 40, "text": "é\n", "list": [1, None, True]}


@pytest.fixture
def saved(tmp_path):
    """Two checkpoints: step 20, and step 40 after it."""
    checkpoint.save(tmp_path, 20, {"model/a": torch.ones(2)}, {"step": 20})
    return checkpoint.save(tmp_path, 40, TENSORS, STATE)


def assert_equal(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor), name


def test_what_was_saved_comes_back_bit_for_bit(saved):
    tensors, state = checkpoint.load(saved)
    assert_equal(tensors, TENSORS)
    assert state == STATE
    assert sorted(path.name for path in saved.iterdir()) == ["MANIFEST", "state.json", "tensors.safetensors"]
    assert saved.name == "step-000000000040"


def test_values_that_are_not_numbers_keep_their_bits(tmp_path):
    odd = {"x": torch.tensor([math.nan, math.inf, -0.0, 5e-324, -math.inf], dtype=torch.float64)}
    tensors, _ = checkpoint.load(checkpoint.save(tmp_path, 1, odd, {}))
    assert checkpoint.raw_bytes(tensors["x"]) == checkpoint.raw_bytes(odd["x"])


def test_the_safetensors_library_reads_our_file(saved):
    assert_equal(safetensors.torch.load_file(saved / "tensors.safetensors"), TENSORS)
    with safetensors.safe_open(saved / "tensors.safetensors", "pt") as file:
        assert file.get_slice("model/a")[1:, :2].tolist() == [[4.0, 5.0], [8.0, 9.0]]


def test_tensors_that_share_memory_are_saved_as_they_are(tmp_path):
    whole = torch.arange(10.0)
    tied = {"a": whole, "b": whole, "part": whole[2:5], "strided": whole[::3]}
    assert_equal(checkpoint.load(checkpoint.save(tmp_path, 1, tied, {}))[0], tied)


def test_the_manifest_says_size_and_checksum_of_each_file(saved):
    line, check = (saved / "MANIFEST").read_text(encoding="utf-8").splitlines()
    assert hashlib.sha256(line.encode()).hexdigest() == check
    manifest = json.loads(line)
    assert (manifest["format"], manifest["step"]) == (1, 40)
    for name, known in manifest["files"].items():
        data = (saved / name).read_bytes()
        assert known == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


FILES = ["tensors.safetensors", "state.json", "MANIFEST"]


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_byte_is_noticed(saved, name):
    whole = (saved / name).read_bytes()
    for position in {0, 1, 9, len(whole) // 3, len(whole) // 2, len(whole) - 2, len(whole) - 1}:
        for bit in (1, 128):
            damaged = bytearray(whole)
            damaged[position] ^= bit
            (saved / name).write_bytes(damaged)
            with pytest.raises(CheckpointError):
                checkpoint.load(saved)
    (saved / name).write_bytes(whole)
    checkpoint.load(saved)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [0, 1, 8, -1])
def test_a_truncated_file_is_noticed(saved, name, left):
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[:left])
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed_and_the_folder_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=saved.name):
        checkpoint.load(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_more_at_its_end_is_noticed(saved, name):
    with (saved / name).open("ab") as file:
        file.write(b"\n{}\n")
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "manifest", ["[]", "3", "null", '{"files": []}', '{"files": {"tensors.safetensors": 3, "state.json": 4}}', "{"]
)
def test_a_manifest_of_another_form_is_refused_even_with_a_right_checksum(saved, manifest):
    check = hashlib.sha256(manifest.encode()).hexdigest()
    (saved / "MANIFEST").write_text(f"{manifest}\n{check}\n", encoding="utf-8")
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)


@pytest.mark.parametrize("header", [2**63, 2**32, 100])
def test_a_tensor_file_whose_header_lies_is_refused(saved, header):
    data = header.to_bytes(8, "little") + b"{}" + b" " * 40
    seal(saved, {"tensors.safetensors": data, "state.json": b"{}"})
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)


def seal(folder, contents: dict[str, bytes]) -> None:
    """Write files with a manifest that fits them."""
    files = {}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    line = json.dumps({"files": files, "format": 1, "step": 1})
    (folder / "MANIFEST").write_text(f"{line}\n{hashlib.sha256(line.encode()).hexdigest()}\n", encoding="utf-8")


def test_the_newest_that_verifies_is_used(saved, tmp_path):
    assert checkpoint.load_newest(tmp_path)[0] == saved
    (saved / "MANIFEST").unlink()
    folder, tensors, state = checkpoint.load_newest(tmp_path)
    assert (folder.name, state["step"]) == ("step-000000000020", 20)
    assert torch.equal(tensors["model/a"], torch.ones(2))


def test_where_none_verifies_each_is_named(saved, tmp_path):
    for folder in tmp_path.iterdir():
        (folder / "state.json").write_bytes(b"")
    with pytest.raises(CheckpointError, match="no usable checkpoint") as raised:
        checkpoint.load_newest(tmp_path)
    assert "step-000000000020" in str(raised.value)
    assert "step-000000000040" in str(raised.value)
    assert raised.value.exit_code == 5
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        checkpoint.load_newest(tmp_path / "nowhere")


def test_leftovers_of_a_save_that_was_cut_off_are_not_checkpoints(saved, tmp_path):
    shutil.copytree(saved, tmp_path / ".tmp-60-1")
    (tmp_path / "step-000000000099").write_text("a file", encoding="utf-8")
    assert checkpoint.load_newest(tmp_path)[0] == saved


def test_order_is_by_number_not_by_time(saved, tmp_path):
    os.utime(tmp_path / "step-000000000020")
    assert [path.name[-2:] for path in checkpoint.newest_first(tmp_path)] == ["40", "20"]
    checkpoint.save(tmp_path, 10**12, {}, {})
    assert checkpoint.load_newest(tmp_path)[0].name == "step-1000000000000"


def test_the_same_step_may_be_saved_again(saved, tmp_path):
    checkpoint.save(tmp_path, 40, {"model/a": torch.zeros(1)}, {"step": 41})
    assert checkpoint.load_newest(tmp_path)[2] == {"step": 41}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000000020", "step-000000000040"]


# ---------------------------------------------------------------- the disk refuses


def refuse(monkeypatch, where: str, after: int) -> None:
    """Let the disk be full from the ``after``-th call on."""
    calls = 0
    real = getattr(os, where)

    def full(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, where, full)


@pytest.mark.parametrize(
    ("where", "after"),
    [("fsync", 0), ("fsync", 1), ("fsync", 2), ("fsync", 3), ("rename", 0), ("mkdir", 0), ("write", 0), ("write", 2)],
)
def test_a_save_that_the_disk_refuses_leaves_the_older_one_and_nothing_else(saved, tmp_path, monkeypatch, where, after):
    with monkeypatch.context() as patched:
        refuse(patched, where, after)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.save(tmp_path, 60, TENSORS, STATE)
    folder, tensors, _ = checkpoint.load_newest(tmp_path)
    assert folder == saved
    assert_equal(tensors, TENSORS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000000020", "step-000000000040"]


@pytest.mark.parametrize("where", ["fsync", "rename", "mkdir", "write"])
def test_a_run_on_a_full_disk_ends_with_the_older_checkpoint_whole(train, tmp_path, monkeypatch, where):
    class Fill:
        @hookimpl
        def trainkit_epoch_start(self, run):
            if run.epoch == 1:
                refuse(patched, where, 0)

        @hookimpl
        def trainkit_save(self, run):
            self.step = run.step

    fill = Fill()
    with monkeypatch.context() as patched, pytest.raises((MachineError, OSError)) as raised:
        train("run.save_in_background=false", listeners=[fill])
    assert fill.step == 16, "the second save was tried"
    assert isinstance(raised.value, MachineError), "an error on the way out must not hide what happened"
    assert raised.value.exit_code == 3
    assert "No space left" in str(raised.value)
    assert "older checkpoints are whole" in str(raised.value)
    assert checkpoint.load_newest(tmp_path / "run-1" / "checkpoints")[2]["step"] == 8


def test_a_short_write_is_gone_on_with(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data)[: len(data) // 2 + 1]))
    made = checkpoint.save(tmp_path, 1, TENSORS, STATE)
    monkeypatch.undo()
    assert_equal(checkpoint.load(made)[0], TENSORS)


@pytest.mark.parametrize("size", [1, 5000])
def test_files_written_over_a_pruned_checkpoint_hold_nothing_of_it(tmp_path, size):
    for step in range(1, 9):
        tensors = {"model/a": torch.full((size if step % 2 else 3,), float(step))}
        checkpoint.save(tmp_path, step, tensors, {"step": step, "long": "x" * (1000 if step % 2 else 1)})
        checkpoint.prune(tmp_path, 2, "step-000000000003" if step >= 3 else None)
        for folder in checkpoint.newest_first(tmp_path):
            held, state = checkpoint.load(folder)
            assert torch.equal(held["model/a"].unique(), torch.tensor([float(state["step"])]))
    assert [path.name[-1] for path in checkpoint.newest_first(tmp_path)] == ["8", "7", "3"]
    checkpoint.tidy(tmp_path)
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["3", "7", "8"]


# ---------------------------------------------------------------- weights, plain data, random state


class Pair(nn.Module):
    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.one = nn.Linear(2, size)
        self.register_buffer("count", torch.tensor(0))


def test_weights_that_do_not_fit_are_named_and_nothing_is_copied():
    model = Pair()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as raised:
        checkpoint.load_weights(
            model, {"model/one.weight": torch.zeros(4, 2), "model/two": torch.zeros(1), "other": torch.zeros(1)}
        )
    for part in (
        "missing one.bias",
        "missing count",
        "left over two",
        "one.weight is (4, 2) torch.float32, the model's (3, 2)",
    ):
        assert part in str(raised.value)
    with pytest.raises(CheckpointError, match=r"one.bias is \(3,\) torch.float64"):
        checkpoint.load_weights(model, {f"model/{n}": t.double() if n == "one.bias" else t for n, t in before.items()})
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_nested_state_goes_through_json_and_back():
    state = {
        "tensor": torch.arange(3),
        "deep": [{"x": torch.ones(2)}, (1, 2.5), None, "text", True],
        "odd": [0.1, math.inf, -math.inf, -0.0, 5e-324],
        "big": 2**80,
        "": {},
    }
    tensors: dict[str, torch.Tensor] = {}
    plain = json.loads(json.dumps(checkpoint.split_state(state, "p", tensors), allow_nan=False))
    back = checkpoint.join_state(plain, tensors)
    assert torch.equal(back["tensor"], state["tensor"])
    assert torch.equal(back["deep"][0]["x"], torch.ones(2))
    assert back["deep"][1:] == [[1, 2.5], None, "text", True]
    assert [value.hex() for value in back["odd"]] == [value.hex() for value in state["odd"]]
    assert (back["big"], back[""]) == (2**80, {})
    assert math.isnan(checkpoint.join_state(checkpoint.split_state(math.nan, "p", {}), {}))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({1: 2}, "p: keys must be text, got 1"),
        ({"a": [object()]}, "p/a/0: object cannot be saved"),
        ({"a": {1, 2}}, "p/a: set"),
    ],
)
def test_state_that_cannot_be_saved_is_named_by_its_place(state, message):
    with pytest.raises(TypeError, match=message):
        checkpoint.split_state(state, "p", {})


def test_a_tensor_of_a_type_that_the_format_lacks_is_named(tmp_path):
    with pytest.raises(TypeError, match=r"model/phase: tensors of torch.complex64 cannot be saved; use torch.float64"):
        checkpoint.save(tmp_path, 1, {"model/phase": torch.ones(2, dtype=torch.complex64)}, {})
    assert list(tmp_path.iterdir()) == []


def test_every_random_generator_comes_back():
    import random

    import numpy

    def draw():
        return random.random(), random.gauss(0, 1), numpy.random.rand(), numpy.random.randn(), torch.rand(3).tolist()

    random.gauss(0, 1)  # leaves one number over, which is state too
    numpy.random.randn()
    device = torch.device("cpu")
    tensors: dict[str, torch.Tensor] = {}
    plain = json.loads(json.dumps(checkpoint.split_state(seeding.random_state(device), "r", tensors)))
    first = draw()
    draw()
    seeding.restore_random_state(checkpoint.join_state(plain, tensors), device)
    assert draw() == first


def test_a_run_says_all_that_continuing_needs(train):
    finished = train(
        "model.dropout=0.5", "optimizer={use='adam'}", "run.duration=11ba", more='[[callback]]\nuse = "early_stop"\n'
    )
    _, tensors, state = checkpoint.load_newest(finished.folder / "checkpoints")
    assert (state["step"], state["epoch"], state["batch_in_epoch"], state["skipped"]) == (11, 1, 3, 0)
    assert (state["total_updates"], state["events"]) == (11, [])
    assert state["data"] == finished.run.feed.spec.fingerprint
    saved = checkpoint.join_state(state["plugins"]["callback.0.early_stop"], tensors)
    assert (saved["best"], saved["waited"]) == (finished.report.best["value"], 0)
    assert checkpoint.join_state(state["best"], tensors) == finished.report.best
    restored = checkpoint.join_state(state["optimizer"], tensors)
    assert set(restored["head.weight"]) == {"step", "exp_avg", "exp_avg_sq"}
    weights = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
    assert_equal(weights, finished.weights)


def test_the_loader_reaches_no_pickle(saved):
    code = (
        "import builtins, sys, pathlib, pickle, marshal\n"
        "from trainkit import checkpoint\n"
        "import torch\n"
        "def no(*args, **kwargs): raise SystemExit('a pickle was read')\n"
        "pickle.loads = pickle.load = pickle.Unpickler = marshal.loads = marshal.load = torch.load = no\n"
        f"tensors, state = checkpoint.load(pathlib.Path({str(saved)!r}))\n"
        "assert state['step'] == 40\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_core_imports_no_pickle():
    import ast
    from pathlib import Path

    import trainkit

    core = Path(trainkit.__file__).parent
    for file in [file for file in core.rglob("*.py") if core / "testing" not in file.parents]:  # which no run imports
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"} & set(named), (
                file.name
            )
            called = node.func if isinstance(node, ast.Call) else None
            # foreign.py is a program of its own, which other programs' files are read in, and nothing else.
            apart = file.name == "foreign.py"
            if not apart and isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                assert (called.value.id, called.attr) != ("torch", "load"), file.name
