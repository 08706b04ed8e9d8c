"""Checkpoints of strangers, with right checksums: refused with one message that names the file, and nothing is made."""

from __future__ import annotations

import json
import os
import shutil
import tracemalloc

import pytest
import torch

from tests.soak import strangers
from tests.soak.strangers import seal, tensor_file
from trainkit import CheckpointError, checkpoint, verified

GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path, 20, {"model/a": torch.ones(2)}, {"step": 20})
    return checkpoint.save(tmp_path, 40, {"model/a": torch.ones(2)}, {"step": 40})


def refusal(folder) -> str:
    """What loading says, in one line, without making room for anything."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(folder)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert str(folder) in str(caught.value)
    assert int(caught.value.exit_code) == 5
    return str(caught.value)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"a": {**GOOD, "shape": [2**40, 0], "data_offsets": [0, 0]}}, "is empty and has the shape [1099511627776, 0]"),
        ({"a": {**GOOD, "shape": [2**62]}}, "needs 18446744073709551616 bytes and has 8"),
        ({"a": {**GOOD, "shape": [2**40], "data_offsets": [0, 2**42]}}, "the tensors end"),
        ({"a": {**GOOD, "shape": [-2]}}, "has the shape [-2]"),
        ({"a": {**GOOD, "shape": [2.0]}}, "has the shape [2.0]"),
        ({"a": {**GOOD, "shape": [True]}}, "has the shape [True]"),
        ({"a": {**GOOD, "shape": [1] * 99}}, "has the shape"),
        ({"a": {**GOOD, "dtype": "F8_E4M3"}}, "has the type F8_E4M3"),
        ({"a": {**GOOD, "dtype": "O"}}, "has the type O"),
        ({"a": {**GOOD, "dtype": ["F32"]}}, "has the type ['F32']"),
        ({"a": {**GOOD, "code": "import os"}}, "dtype, shape and data_offsets alone"),
        ({"a": 3}, "dtype, shape and data_offsets alone"),
        ({"a": GOOD, "b": GOOD}, "overlaps another"),
        ({"a": {**GOOD, "shape": [1], "data_offsets": [4, 8]}}, "lies behind a hole"),
        ({"a": {**GOOD, "shape": [1], "data_offsets": [0, 4]}}, "the tensors end 4 bytes before the file"),
        ({"a": {**GOOD, "data_offsets": [8, 0]}}, "needs 8 bytes and has -8"),
        (f'{{"a": {json.dumps(GOOD)}, "a": {json.dumps(GOOD)}}}', "'a' comes twice"),
        ("[" * 100_000, "nested too deep"),
        ("[]", "not a JSON object"),
        ("{", "not JSON"),
        ('{"a": NaN}', "NaN is no number"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 else "",
)
def test_headers_that_lie_are_refused(saved, header, reason):
    seal(saved, {"tensors.safetensors": tensor_file(header, bytes(8))})
    assert reason in refusal(saved)
    assert checkpoint.find_newest(saved.parent)[0].name == "step-000000000020", "the one before is used"


@pytest.mark.parametrize("length", [2**63, 2**40, 2**32, 9])
def test_a_header_longer_than_the_file_is_refused(saved, length):
    seal(saved, {"tensors.safetensors": length.to_bytes(8, "little") + bytes(8)})
    assert "the header claims" in refusal(saved)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (b"[1]", "not a JSON object"),
        (b'{"step": 1, "step": 2}', "'step' comes twice"),
        (b'{"a": ' * 100_000, "nested too deep"),
        (b'{"a": ' + b"[" * 99 + b"]" * 99 + b"}", "nested more than 64 deep"),
        (b'{"a": {"__tensor__": "model/b"}}', "model/b"),
        (b'{"a": {"__tensor__": ["x"]}}', "which tensors.safetensors does not have"),
        (b'{"a": {"__float__": "0x"}}', "hexadecimal"),
        (b'{"threads": 100000}', "'threads' must be a number from 1 to 1024"),
        (b'{"step": -1}', "'step' must be a whole number"),
        (b'{"step": "1"}', "'step' must be a whole number"),
        (b'{"step": 1e3}', "'step' must be a whole number"),
        (b'{"groups": [{}]}', "'groups' must be a list of tables with names"),
        (b'{"x": ' + b"9" * 5000 + b"}", "state.json"),
        (b"\xff", "not JSON"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_states_of_another_form_are_refused(saved, state, reason):
    seal(saved, {"state.json": state})
    assert reason in refusal(saved)


def test_lengths_beyond_the_machine_are_refused_unread(saved):
    os.truncate(saved / "tensors.safetensors", verified.memory() + 1)  # a file with a hole takes no room
    line = json.loads((saved / "MANIFEST").read_bytes().split(b"\n")[0])
    line["files"]["tensors.safetensors"]["bytes"] = verified.memory() + 1
    reseal(saved, line)
    assert "it may have" in refusal(saved)
    line["files"]["tensors.safetensors"]["bytes"] = 8
    reseal(saved, line)
    assert "and may have 8" in refusal(saved)


def reseal(folder, manifest) -> None:
    import hashlib

    text = json.dumps(manifest)
    (folder / "MANIFEST").write_text(f"{text}\n{hashlib.sha256(text.encode()).hexdigest()}\n", encoding="utf-8")


@pytest.mark.parametrize("name", strangers.FILES)
def test_only_files_are_read(saved, tmp_path, name):
    kept = tmp_path / "kept"
    shutil.copy(saved / name, kept)
    for make, what in (
        (lambda path: path.symlink_to(kept), "it is a link, not a file"),
        (os.mkfifo, "it is a pipe, not a file"),
        (lambda path: path.mkdir(), "it is a folder, not a file"),
    ):
        (saved / name).unlink() if not (saved / name).is_dir() else (saved / name).rmdir()
        make(saved / name)
        assert f"{saved / name}: {what}" in refusal(saved)


def test_a_folder_that_is_a_link_or_holds_more_is_refused(saved, tmp_path):
    (saved / "weights.pkl").write_bytes(b"\x80\x04.")
    assert "weights.pkl: a checkpoint has no such file" in refusal(saved)
    (saved / "weights.pkl").unlink()
    moved = saved.rename(tmp_path / "elsewhere")
    saved.symlink_to(moved)
    assert "it is a link, not a folder" in refusal(saved)


def test_whatever_a_checkpoint_says_ends_in_one_message():
    assert strangers.check(40, 0) == []
