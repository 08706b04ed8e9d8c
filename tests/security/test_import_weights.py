"""``trainkit import-weights``: a pickle is read in a process apart, and nothing but its tensors comes out."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from trainkit import foreign
from trainkit.cli import main

WEIGHTS = {
    "layer.weight": torch.arange(6.0).reshape(2, 3),
    "layer.bias": torch.tensor([0.5, -0.0], dtype=torch.bfloat16),
    "steps": torch.tensor(7),
}


class Code:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.mark}",)


def test_weights_come_out_bit_for_bit(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"epoch": 3, "state_dict": OrderedDict(WEIGHTS, note="x")}, tmp_path / "theirs.pth")
    assert main(["import-weights", str(tmp_path / "theirs.pth"), "--out", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["key"], said["left_out"], said["out"]) == (
        "state_dict",
        ["note"],
        str(tmp_path / "theirs.safetensors"),
    )
    assert {"name": "layer.bias", "dtype": "BF16", "shape": [2]} in said["tensors"]
    made = load_file(tmp_path / "theirs.safetensors")
    assert made.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert made[name].dtype == tensor.dtype
        assert torch.equal(made[name], tensor)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs.pth", "theirs.safetensors"]


def test_code_in_a_pickle_is_named_and_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # would turn the guard off, and does not reach it
    torch.save({"a": torch.ones(2), "b": Code(tmp_path / "mark")}, tmp_path / "evil.pt")
    assert main(["import-weights", str(tmp_path / "evil.pt"), "--out", str(tmp_path)]) == 5
    err = capsys.readouterr().err
    assert "evil.pt: it holds more than weights: it names posix.system, which is code; it was not run" in err
    assert "weights_only" not in err, "torch's advice is to run it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pt"]


def test_the_process_apart_can_start_nothing_even_where_the_guard_fails(tmp_path):
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Code(tmp_path / "mark")))
    code = (
        "import pickle, socket, sys\nfrom trainkit import foreign\nforeign.shut(0)\n"
        "import os\n"
        "for attempt in (lambda: pickle.load(open('evil.pkl', 'rb')), socket.socket, lambda: open('x', 'w'),\n"
        "                lambda: os.system('touch mark'), os.fork):\n"
        "    try:\n        attempt()\n    except foreign.Refused as error:\n        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    events = [line.split(": ")[1].split(" ")[0] for line in done.stdout.splitlines()]
    assert events == ["pickle.find_class", "socket.__new__", "open", "os.system", "os.fork"], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["evil.pkl"]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["none.pt", "--out", "."], 2, "none.pt: cannot be read: No such file"),
        (["pipe.pt", "--out", "."], 2, "pipe.pt: it is a pipe, not a file"),
        ([".", "--out", "b.safetensors"], 2, "it is a folder, not a file"),
        (["a.pt", "--out", "a.pt"], 2, "a file whose name ends in .safetensors"),
        (["a.pt", "--out", "there.safetensors"], 2, "it is there already"),
        (["a.pt", "--out", "link.safetensors"], 2, "it is there already"),
        (["there.safetensors", "--out", "b.safetensors"], 2, "it is a safetensors file already"),
        (["a.pt"], 2, "--out"),
        (["a.pt", "--out", "no/such/folder/a.safetensors"], 3, "cannot be written"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_names_that_are_wrong_are_told_before_anything_is_read(tmp_path, monkeypatch, capsys, words, code, reason):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.pt")
    torch.save(WEIGHTS, "a.pt")
    Path("there.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    Path("link.safetensors").symlink_to("outside")
    before = sorted(os.listdir())
    assert main(["import-weights", *words]) == code
    assert reason in capsys.readouterr().err
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("loaded", "key", "reason"),
    [
        ([torch.ones(2)], "", "no table of tensors by name; it is a list"),
        ({"a": 1}, "", "no table of tensors"),
        ({"m": {"a": torch.ones(2)}, "ema": {"a": torch.ones(2)}}, "", "'m' (1 tensors), 'ema' (1 tensors)"),
        ({"m": {"a": torch.ones(2)}}, "n", "--key n: there is no table of tensors; tables: 'm'"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "", "'a' is torch.complex64"),
        ({"a": torch.ones(2).to_sparse()}, "", "torch.sparse_coo"),
        ({"a": torch.empty(2, device="meta")}, "", "on the device meta"),
        ({"a.b": torch.ones(2), "a": {"b": torch.ones(2), "c": torch.ones(1)}}, "", "two tensors have the name 'a.b'"),
        ({"__metadata__": torch.ones(2)}, "", "a name that cannot be saved"),
        ({"x" * 600: torch.ones(2)}, "", "a name that cannot be saved"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_without_one_table_of_weights_are_refused(loaded, key, reason):
    with pytest.raises(foreign.Refused) as caught:
        foreign.weights_in(loaded, key)
    assert reason in str(caught.value)


def test_a_table_is_found_by_its_key_or_alone():
    nested = {"state": {"model": WEIGHTS, "lr": 0.1}, "optimizer": {"state": {0: {"m": torch.ones(2)}}}}
    assert foreign.weights_in(nested, "")[0] == "state.model"
    assert foreign.weights_in({"m": WEIGHTS, "ema": WEIGHTS}, "ema")[1].keys() == WEIGHTS.keys()
    assert foreign.weights_in({"head": {"w": torch.ones(1)}, "b": torch.ones(1)}, "")[1].keys() == {"head.w", "b"}


@pytest.mark.parametrize(
    ("names", "compression", "reason"),
    [
        (["a", "a"], zipfile.ZIP_STORED, "a member twice"),
        (["a"], zipfile.ZIP_DEFLATED, "compressed"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_torch_would_not_write_are_refused(names, compression, reason):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name in names:
            archive.writestr(name, b"0" * 1000)
    with pytest.raises(foreign.Refused, match=reason):
        foreign.check_archive(file, len(file.getvalue()))


def test_an_archive_of_a_later_format_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", b"0")
    content = bytearray(file.getvalue())
    content[content.index(b"PK\x01\x02") + 6] = 99  # the version that is needed to read it, 9.9
    with pytest.raises(foreign.Refused, match=r"damaged archive: zip file version 9\.9"):
        foreign.check_archive(io.BytesIO(content), len(content))


def test_views_that_repeat_a_number_are_not_written_out(tmp_path, capsys):
    torch.save({"a": torch.ones(1).expand(10**11)}, tmp_path / "big.pt")
    assert main(["import-weights", str(tmp_path / "big.pt"), "--out", str(tmp_path)]) == 5
    assert "views that repeat" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["big.pt"]
