"""Runs on a CUDA device; skipped where there is none."""

from __future__ import annotations

import gc
import json

import pytest
import torch

from trainkit import Batch, graphed, hookimpl, snapshot
from trainkit.build import make_ready, prepare
from trainkit.feed.ahead import copied_ahead
from trainkit.lanes.lane import Lane
from trainkit.lanes.stack import Stack
from trainkit.launch import launch
from trainkit.protocols import silent
from trainkit.steps import eager_step

pytestmark = pytest.mark.cuda
IMAGES = "data.features=[3,16,16]", "model={use='resnet', depth=8}", "data.samples=320"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("changes", [(), IMAGES], ids=["mlp", "resnet"])
def test_a_run_on_cuda_goes_as_one_on_the_cpu(train, precision, changes):
    on_cpu = train(*changes, "run.duration=3ep")
    on_cuda = train(*changes, "run.duration=3ep", "run.device=cuda", f"run.precision={precision}")
    assert on_cuda.run.device.type == "cuda"
    assert [(line["step"], line["split"]) for line in on_cuda.lines] == [(x["step"], x["split"]) for x in on_cpu.lines]
    assert {name: (t.shape, t.dtype) for name, t in on_cuda.weights.items()} == {
        name: (t.shape, t.dtype) for name, t in on_cpu.weights.items()
    }
    tolerance = 0.02 if precision == "float32" else 0.25
    assert on_cuda.report.metrics["train.loss"] == pytest.approx(on_cpu.report.metrics["train.loss"], rel=tolerance)


def test_the_device_and_its_precision_are_chosen_where_there_is_one(train):
    finished = train("run.device=auto")
    assert (finished.run.device.type, finished.run.precision.name) == ("cuda", "bfloat16")


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("optimizer={use='adamw'}",),
        ("optimizer.momentum=0.9", "run.accumulate=2"),
        ("loss.class_weights=[1.0, 2.0, 3.0]", "run.accumulate=2"),
        IMAGES,
        (*IMAGES, "data.augment=[{use='random_crop'}, {use='flip'}, {use='mixup'}]"),
        (*IMAGES, "data.loading=streamed", "data.workers=0"),
        ("run.compile=step", "run.updates_per_call=2"),
    ],
    ids=str,
)
def test_nothing_waits_for_the_device_within_a_logging_interval(train, changes):
    """The first two updates may: they move constants and make room. Every later one must not.

    Compiling and recording wait too, once.
    """
    first = 8 if "run.compile=step" in changes else 0

    class Watch:
        updates = 0

        @hookimpl
        def trainkit_step_end(self, run):
            if run.step % 8 == 2 and run.step > first:
                torch.cuda.set_sync_debug_mode("error")
            if run.step % 8 == 6:
                torch.cuda.set_sync_debug_mode("default")
            Watch.updates = run.step

    try:
        train(
            *changes,
            "run.device=cuda",
            "run.precision=bfloat16",
            "run.duration=16ba",
            "run.log_every=8ba",
            "run.evaluate_every=8ba",
            "run.save_every=8ba",
            more='[[callback]]\nuse = "clip_norm"\nmax_norm = 1.0\n',
            listeners=[Watch()],
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert Watch.updates == 16


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_images_lie_in_channels_last_and_evaluations_fold_the_batch_norms(train, precision):
    """The chosen layout, and figures that folding leaves alone; float32 convolutions may be rounded to TF32."""
    changes = *IMAGES, "data.samples=3200", "run.device=cuda", f"run.precision={precision}", "run.duration=1ep"
    one, plain = train(*changes), train(*changes, "run.fold_batchnorm=false")
    assert one.run.folding is not None
    assert len(one.run.folding.pairs) == 7
    assert one.run.model.get_submodule("stages.1.0.conv1").weight.is_contiguous(memory_format=torch.channels_last)
    tolerance = 0.01 if precision == "float32" else 0.05
    assert one.of("val")[0]["loss"] == pytest.approx(plain.of("val")[0]["loss"], rel=tolerance)


def test_streamed_batches_of_evaluations_arrive_on_the_device(train):
    finished = train(*IMAGES, "run.device=cuda", "data.loading=streamed", "data.workers=0", "run.duration=4ba")
    assert next(iter(finished.run.feed.evaluate("val"))).inputs.device.type == "cuda"


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_batches_are_those_that_lie_on_the_device(train, workers):
    """Copied ahead on a stream of their own, none is used before it is there or overwritten while it is used."""
    changes = *IMAGES, "run.device=cuda", "run.precision=float32", "run.duration=2ep"
    crop = "data.augment=[{use='random_crop'}, {use='flip'}]"
    resident = train(*changes, crop, "data.loading=resident")
    streamed = train(*changes, crop, "data.loading=streamed", f"data.workers={workers}")
    for given, wanted in zip(streamed.of("train"), resident.of("train"), strict=True):
        assert given["loss"] == pytest.approx(wanted["loss"], rel=1e-3)


def test_batches_copied_ahead_are_whole_while_the_device_is_busy():
    """A device that is far behind still has every batch as it was made."""
    device = torch.device("cuda", torch.cuda.current_device())
    made = [Batch(torch.full((512, 4096), float(n)), torch.full((512,), n), torch.arange(512)) for n in range(24)]
    work, sums = torch.randn(4096, 4096, device=device), []
    for batch in copied_ahead(iter(made), device):
        for _ in range(4):
            work = torch.nn.functional.normalize(work @ work)
        sums.append(batch.inputs.double().mean() + batch.targets.double().mean() + 0 * work.sum())
        del batch  # its memory goes back to those who copy
    assert torch.stack(sums).tolist() == pytest.approx([2.0 * n for n in range(24)])


@pytest.mark.compiler
@pytest.mark.parametrize("changes", [(), ("model.dropout=0.3",), IMAGES], ids=["mlp", "dropout", "resnet"])
def test_a_compiled_step_as_a_graph_is_the_compiled_step(train, monkeypatch, changes):
    """Bit for bit, random numbers included, and as close to the eager run as a compiled step is."""
    recorded, kept = [], graphed.record

    def record(function, arguments):
        recorded.append(len(arguments))
        return kept(function, arguments)

    monkeypatch.setattr(graphed, "record", record)
    said = []
    common = *changes, "run.device=cuda", "run.precision=float32", "run.duration=3ep"
    eager = train(*common)
    steps = "run.compile=step", "run.updates_per_call=2"
    plain = train(*common, *steps, "run.cuda_graphs=false", say=said.append)
    assert recorded == []
    replayed = train(*common, *steps, say=said.append)
    assert len(recorded) == 1, said
    assert not [line for line in said if "compile" in line]
    assert replayed.report.weights_sha256 == plain.report.weights_sha256
    assert replayed.report.metrics == plain.report.metrics
    assert replayed.report.metrics["train.loss"] == pytest.approx(eager.report.metrics["train.loss"], rel=0.02)


def test_a_report_says_how_much_memory_was_taken(train):
    finished = train(*IMAGES, "run.device=cuda", "run.duration=2ba")
    memory = json.loads((finished.folder / "report.json").read_text())["memory"]
    assert memory == finished.report.memory
    weights = sum(tensor.nbytes for tensor in finished.weights.values())
    assert weights < memory["allocated"] <= memory["reserved"]


def test_a_microbatch_is_found_where_the_device_has_too_little_memory(train):
    """The update stays that of the whole batch."""
    changes = "data.features=[3,32,32]", "data.samples=1200", "data.batch_size=512", "run.precision=float32"
    model = "model={use='convnet', widths=[64, 64], norm='none'}"
    whole = train(*changes, model, "run.device=cuda", "run.duration=1ba")
    taken = whole.report.memory["reserved"]
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 0.6 * taken) / total)
    try:
        parts = train(*changes, model, "run.device=cuda", "run.duration=1ba", 'run.microbatch="auto"')
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert parts.report.microbatch in (256, 128, 64, 32)
    assert parts.report.metrics["train.loss"] == pytest.approx(whole.report.metrics["train.loss"], rel=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("changes", [(), IMAGES], ids=["mlp", "resnet"])
def test_lanes_on_a_device_are_the_runs_alone(load, plugins, tmp_path, changes, precision):
    """Several runs as one model, each with rates of its own, against each by itself."""
    recipes = [
        load(*changes, "run.device=cuda", f"run.precision={precision}", f"optimizer.lr={rate}", f"seed={seed}")
        for seed, rate in enumerate((0.05, 0.1, 0.2))
    ]

    def runs():
        made = [prepare(recipe, plugins, tmp_path / "run", silent) for recipe in recipes]
        for run in made:
            make_ready(run)
        return made

    alone = runs()
    for run in alone:
        step = eager_step(run, True)
        for batch in run.feed.train(0):
            run.step += step([[batch]]).updates
    together = runs()
    stack = Stack([Lane(run, recipe) for run, recipe in zip(together, recipes, strict=True)])
    for batches in zip(*(run.feed.train(0) for run in together), strict=True):
        stack.update(batches)
        for run in together:
            run.step += 1
    tolerance = 2e-2 if precision == "float32" else 0.2
    for run, other in zip(together, alone, strict=True):
        for name, weight in other.model.state_dict().items():
            if weight.is_floating_point():
                apart = (run.model.state_dict()[name] - weight).norm() / (weight.norm() + 1)
                assert float(apart) < tolerance, name


def test_a_loss_that_is_not_finite_names_its_update_at_the_next_line(train):
    class Spoil:
        @hookimpl
        def trainkit_loss(self, run, outputs, batch):
            return run.loss(outputs, batch.targets) * (float("nan") if run.step == 3 else 1.0)

    with pytest.raises(Exception, match="the loss is not finite at update 3"):
        train("run.device=cuda", listeners=[Spoil()])


def test_the_same_run_twice_has_the_same_weights(train):
    first, second = (train("run.device=cuda", "run.precision=float32") for _ in range(2))
    assert first.report.weights_sha256 == second.report.weights_sha256


@pytest.mark.parametrize("optimizer", ["adamw", "asgd", "adafactor", "nadam"])
def test_a_continued_run_on_cuda_has_its_state_where_it_was(load, plugins, tmp_path, optimizer):
    """Weights are as close as two runs of a recipe are; counters that torch keeps on the CPU come back there."""

    class Stop:
        def __init__(self, step):
            self.step = step

        @hookimpl
        def trainkit_run_start(self, run):
            self.run = run

        @hookimpl
        def trainkit_step_end(self, run):
            if run.step == self.step:
                run.stop_reason = "the test asked for it"

    recipe = load(
        "run.device=cuda", "run.precision=float32", "optimizer={use='" + optimizer + "'}", "model.dropout=0.3"
    )
    straight = Stop(None)
    whole = launch(recipe, plugins, folder=tmp_path / "straight", listeners=[straight])
    for step in (3, 11, None):
        broken = Stop(step)
        report = launch(recipe, plugins, folder=tmp_path / "broken", listeners=[broken], resume=True)
    assert report.steps == whole.steps
    assert report.metrics["val.loss"] == pytest.approx(whole.metrics["val.loss"], rel=1e-4)
    kept, came = (snapshot.optimizer_state(stop.run.optimizer) for stop in (straight, broken))
    for name, state in kept.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                assert (came[name][key].device, came[name][key].dtype) == (value.device, value.dtype), (name, key)
