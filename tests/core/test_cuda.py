"""Runs on a CUDA device; skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from trainkit import hookimpl, snapshot
from trainkit.launch import launch

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
    ],
    ids=str,
)
def test_nothing_waits_for_the_device_within_a_logging_interval(train, changes):
    """The first two updates may: they move constants and make room. Every later one must not."""

    class Watch:
        updates = 0

        @hookimpl
        def trainkit_step_end(self, run):
            if run.step % 8 == 2:
                torch.cuda.set_sync_debug_mode("error")
            if run.step % 8 == 6:
                torch.cuda.set_sync_debug_mode("default")
            Watch.updates += 1

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
