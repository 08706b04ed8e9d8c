"""A model that is divided among processes makes the run of one process, and any number of processes goes on with it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from torch import nn

from tests.soak.strangers import tensor_file
from trainkit import CheckpointError, RecipeError, checkpoint
from trainkit.distributed import Group, sharding
from trainkit.manager import Plugins
from trainkit.pieces import put_together, shard_file
from trainkit.recipe import load_recipe
from trainkit.verified import read_outline

WORKER = Path(__file__).with_name("sharded_worker.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs; one start of each group makes them."""
    folder = tmp_path_factory.mktemp("sharded")
    done = subprocess.run(
        [sys.executable, str(WORKER), str(folder)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    told = [json.loads(path.read_text()) for path in folder.glob("found-*.json")]
    assert not [one["error"] for one in told if "error" in one]
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.fixture(scope="module")
def found(made: Path) -> Callable[[int], list[dict[str, Any]]]:
    """What each process of a group of some size tells."""
    return lambda size: [json.loads((made / f"found-{size}-{rank}.json").read_text()) for rank in range(size)]


def lines(run: Path) -> list[dict[str, Any]]:
    """The lines of a run, without those that only its ends have."""
    every = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in every if line["split"] != "test"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    """All tensors of a run's newest checkpoint but random states."""
    tensors = checkpoint.load_newest(run / "checkpoints")[1]
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("random/")}


@pytest.mark.parametrize(
    ("several", "one"),
    [("plain-2", "plain-1"), ("plain-3", "plain-1"), ("parts-3", "parts-1"), ("moved", "all-1"), ("middle", "all-1")],
)
def test_a_divided_model_makes_the_run_of_one_process(made: Path, several: str, one: str) -> None:
    # `moved` is begun by two processes and ended by three; `middle` by one, which has a whole model, and three.
    expected = {(line["step"], line["split"]): line for line in lines(made / one)}
    for line in lines(made / several):
        if several == "middle" and line["split"] == "train":
            continue  # its first part was to end at update 8, which gave a line between two others
        same = expected[line["step"], line["split"]]
        assert line.keys() == same.keys()
        numbers = {key: value for key, value in line.items() if key != "split"}
        assert numbers == pytest.approx({key: same[key] for key in numbers}, rel=1e-9, abs=1e-9), line["step"]
    own, other = weights(made / several), weights(made / one)
    assert own.keys() == other.keys()
    for name, tensor in own.items():
        assert tensor.dtype == other[name].dtype
        torch.testing.assert_close(tensor, other[name], rtol=1e-9, atol=1e-9)


def test_each_process_has_some_rows_of_every_parameter_and_the_report_is_about_whole_ones(
    made: Path, found: Callable[[int], list[dict[str, Any]]]
) -> None:
    count = sum(tensor.numel() for name, tensor in weights(made / "plain-1").items() if _is_parameter(name))
    for size in (2, 3):
        assert sum(told["plain"]["rows"] for told in found(size)) == count
        assert max(told["plain"]["rows"] for told in found(size)) < count
        (sha256,) = {told["plain"]["report"]["weights_sha256"] for told in found(size)}
        assert sha256 == checkpoint.tensors_sha256(weights(made / f"plain-{size}"), "model/")


def _is_parameter(name: str) -> bool:
    return name.startswith("model/") and "running" not in name and "tracked" not in name


def test_every_process_writes_a_file_of_its_own_without_a_pickle(made: Path) -> None:
    folder = checkpoint.newest_first(made / "plain-3" / "checkpoints")[0]
    files = [shard_file(number, 3) for number in (1, 2, 3)]
    assert sorted(path.name for path in folder.iterdir()) == sorted(["MANIFEST", "state.json", *files])
    manifest = json.loads((folder / "MANIFEST").read_text().splitlines()[0])
    assert manifest["format"] == 2
    assert set(manifest["files"]) == {"state.json", *files}
    with safetensors.safe_open(folder / files[0], "pt") as file:
        assert file.get_slice("model/body.0.weight").get_shape() == [3, 6]
    assert not [path for path in (made / "plain-3" / "checkpoints").iterdir() if path.name.startswith(".")]


def test_the_first_process_can_call_the_model_when_the_run_is_over_and_the_others_do_not_wait(
    found: Callable[[int], list[dict[str, Any]]],
) -> None:
    first, other, *_ = found(3)
    assert first["seen"] == "[1, 3]"
    assert other["seen"] == "the model is divided among processes, and the processes no longer work together"


def test_what_goes_wrong_in_one_process_ends_all_alike(
    made: Path, found: Callable[[int], list[dict[str, Any]]]
) -> None:
    for told in found(2):
        assert told["agreed"] == [True, False]
        assert told["not finite"].startswith("NotFinite: the loss is not finite at update")
        assert "'body.0.weight' is another in process 1 than in process 0 after update 0" in told["others"]
        assert "the checkpoint at update 4 could not be written: Input/output error" in told["first's disk"]
        assert "the checkpoint at update 12 could not be written: No space left on device" in told["disk"]
        assert told["left"] == ["step-000000000004", "step-000000000008"], "older ones are whole, nothing else is there"
    checkpoint.load_newest(made / "full" / "checkpoints")


def test_tied_weights_are_rows_under_each_of_their_names(found: Callable[[int], list[dict[str, Any]]]) -> None:
    for told in found(2):
        assert told["tied"] == [
            f"model/{name}" for name in ("0.bias", "0.weight", "1.bias", "1.weight", "2.bias", "2.weight")
        ]


# ---------------------------------------------------------------- files of strangers


@pytest.fixture
def saved(made: Path, tmp_path: Path) -> Path:
    """A checkpoint of three processes."""
    folder = checkpoint.newest_first(made / "plain-3" / "checkpoints")[0]
    return Path(shutil.copytree(folder, tmp_path / folder.name))


@pytest.mark.parametrize("number", [1, 3])
def test_a_flipped_byte_in_any_file_is_noticed(saved: Path, number: int) -> None:
    file = saved / shard_file(number, 3)
    whole = file.read_bytes()
    for place in (3, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=file.name):
            checkpoint.load(saved)
        with pytest.raises(CheckpointError, match=file.name):
            read_outline(saved, lambda at: at == number - 1)  # as the process whose file it is to look at
    file.write_bytes(whole)
    assert read_outline(saved, lambda at: False)[1]["step"] == 12


def test_files_that_are_missing_or_too_many_are_noticed(saved: Path) -> None:
    third = saved / shard_file(3, 3)
    (saved / shard_file(4, 4)).write_bytes(third.read_bytes())
    with pytest.raises(CheckpointError, match=r"tensors-00004-of-00004\.safetensors: the checkpoint has no such file"):
        checkpoint.load(saved)
    (saved / shard_file(4, 4)).unlink()
    third.unlink()
    with pytest.raises(CheckpointError, match=r"tensors-00003-of-00003\.safetensors: not a whole checkpoint"):
        checkpoint.load(saved)


def seal(folder: Path, contents: dict[str, bytes]) -> None:
    """Write files of several processes, with a manifest that fits them."""
    folder.mkdir()
    files = {}
    for name, data in contents.items():
        (folder / Path(name).name).write_bytes(data)
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    line = json.dumps({"files": files, "format": 2, "step": 1})
    (folder / "MANIFEST").write_text(f"{line}\n{hashlib.sha256(line.encode()).hexdigest()}\n", encoding="utf-8")


ROW = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
FILES = {shard_file(1, 2): {"a": ROW}, shard_file(2, 2): {"a": ROW}}
FIRST = {shard_file(1, 2): 0, shard_file(2, 2): 1}


@pytest.mark.parametrize(
    ("shards", "reason"),
    [
        ({}, "tensor 'a' lies in tensors-00001-of-00002.safetensors and in tensors-00002"),
        ({"a": {"shape": [3, 2], "first": FIRST}}, "the pieces have 2 rows, the tensor 3"),
        ({"a": {"shape": [2, 3], "first": FIRST}}, "does not continue it at row 0"),
        ({"a": {"shape": [2, 2], "first": {**FIRST, shard_file(2, 2): 0}}}, "does not continue it at row 1"),
        ({"a": {"shape": [2, 2], "first": {shard_file(1, 2): 0}}}, "names the files"),
        ({"a": {"shape": [2, 2], "first": {**FIRST, "/etc/passwd": 2}}}, "names the files"),
        ({"a": {"shape": [2, 2], "first": {**FIRST, shard_file(2, 2): -1}}}, "must have whole numbers"),
        ({"a": {"shape": [2**70, 2], "first": FIRST}}, "must have whole numbers"),
        ({"a": {"shape": [], "first": FIRST}}, "must have whole numbers"),
        ({"a": [1]}, "must be a table of shape and first"),
        ({"b": {"shape": [1], "first": {}}, "a": {"shape": [2, 2], "first": FIRST}}, "'b' names no file"),
        ([], "must be a table"),
    ],
)
def test_pieces_that_make_no_tensor_are_refused(tmp_path: Path, shards: Any, reason: str) -> None:
    folder = tmp_path / "step-000000000001"
    contents = {name: tensor_file(header, bytes(8)) for name, header in FILES.items()}
    seal(folder, {**contents, "state.json": json.dumps({"shards": shards}).encode()})
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    assert reason in str(caught.value)


def test_pieces_are_put_together_in_the_order_of_rows() -> None:
    files = {name: {"a": ("F32", (1, 2), 8)} for name in FILES}
    first = {shard_file(1, 2): 1, shard_file(2, 2): 0}
    pieces = put_together(files, {"shards": {"a": {"shape": [2, 2], "first": first}}})["a"]
    assert [part.file for part in pieces.parts] == [shard_file(2, 2), shard_file(1, 2)]


@pytest.mark.parametrize(
    "names",
    [["tensors.safetensors", shard_file(1, 1)], [shard_file(1, 2), shard_file(2, 3)], [shard_file(1, 2)], ["../x"], []],
)
def test_a_manifest_of_files_that_do_not_belong_together_is_refused(tmp_path: Path, names: list[str]) -> None:
    folder = tmp_path / "step-000000000001"
    seal(folder, {**{name: tensor_file({}, b"") for name in names}, "state.json": b"{}"})
    with pytest.raises(CheckpointError, match=r"make no checkpoint|no such file"):
        checkpoint.load(folder)


# ---------------------------------------------------------------- what is refused, and what is gathered by itself


RECIPE = """\
recipe = 1
[run]
duration = "5ba"
strategy = "fsdp"
compile = "model"
precision = "float16"
microbatch = "auto"
[data]
use = "synthetic"
batch_size = 16
[model]
use = "mlp"
[loss]
use = "cross_entropy"
[optimizer]
use = "muon"
lr = 0.02
rest = { use = "lamb", lr = 0.01 }
[[optimizer.wrap]]
use = "sam"
[[callback]]
use = "gradient_noise"
eta = 0.01
[[callback]]
use = "ema"
"""


def test_what_needs_whole_weights_is_a_problem_of_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text(RECIPE, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, [], Plugins())
    text = str(caught.value)
    for part in (
        "r.toml:16: [optimizer] muon looks at whole weights",
        "[optimizer.rest] lamb looks at whole weights",
        "[[optimizer.wrap]] sam looks at whole weights",
        "[[callback]] gradient_noise is not known to work",
        '[run] compile = "model" cannot follow',
        '[run] precision = "float16"',
        '[run] microbatch = "auto"',
        'write strategy = "ddp" in [run]',
    ):
        assert part in text
    assert "ema" not in text
    file.write_text(RECIPE.replace('strategy = "fsdp"', 'strategy = "ddp"'), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(file, [], Plugins())
    assert "whole weights" not in str(caught.value)


def test_a_parameter_without_rows_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    with pytest.raises(ValueError, match="the parameter 'scale' is a single number"):
        sharding.Sharded(model, Group(0, 2), torch.ones(1, 2))


def test_a_torch_that_cannot_sum_gradients_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.distributed.fsdp.FSDPModule.set_force_sum_reduction_for_comms")
    with pytest.raises(ValueError, match=f"fsdp takes a newer torch than {re.escape(torch.__version__)}"):
        sharding.Sharded(nn.Linear(2, 2), Group(0, 2), torch.ones(1, 2))


def test_layers_are_gathered_by_themselves_that_are_large_and_called_and_share_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharding, "LEAST", 10)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.tied = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
            self.tied.weight = self.embedding.weight
            self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4)), nn.Linear(4, 4)])
            self.used = nn.Linear(4, 4)
            self.small = nn.Linear(4, 1)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            hidden = self.tied(self.embedding(inputs))
            for block in self.blocks:
                hidden = block(hidden)
            return self.small(nn.functional.linear(hidden, self.used.weight))

    model = Model()
    model.train()
    apart = sharding.layers_apart(model, torch.ones(2, 4))
    assert [name for name, module in model.named_modules() if any(module is one for one in apart)] == [
        "blocks.0.0",
        "blocks.1",
    ]
    assert all(module.training for module in model.modules())
