"""The settings of ``[run]``; the signature is its schema, as in `tables`."""

from __future__ import annotations

from typing import Annotated, Literal

from trainkit.settings import Between, Duration, PositiveInt


def run(
    *,
    duration: Duration,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto",
    processes: Annotated[int, Between(1, 4096)] = 1,
    strategy: Literal["auto", "ddp", "fsdp"] = "auto",
    batchnorm: Literal["sync", "local"] = "sync",
    accumulate: PositiveInt = 1,
    compile: Literal[False, "model", "step", "auto"] = False,
    updates_per_call: PositiveInt | None = None,
    cuda_graphs: bool = True,
    tune_convolutions: bool = False,
    channels_last: Literal[True, False, "auto"] = "auto",
    threads: Annotated[int, Between(1, 1024)] | None = None,
    keep_pages: bool = True,
    fold_batchnorm: bool = True,
    microbatch: Literal["auto", 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024] | None = None,
    nonfinite: Literal["error", "skip", "rollback"] = "error",
    rollback_factor: Annotated[float, Between(0, 1, low_open=True, high_open=True)] = 0.5,
    rollbacks: PositiveInt = 3,
    evaluate_every: Duration = "1ep",
    log_every: Duration = "1ep",
    save_every: Duration = "1ep",
    save_pause: Annotated[float, Between(0, 3600)] = 1.0,
    save_in_background: bool = True,
    save_best: bool = True,
    keep: Annotated[int, Between(2)] = 2,
    monitor: str = "val.loss",
    on_length_change: Literal["error", "rescale", "keep"] = "error",
    on_conflict: Literal["error", "recipe", "checkpoint"] = "error",
) -> None:
    """How long the run is, and how it is executed.

    Args:
        duration: length of the run.
        device: where the model lives; auto is cuda if there is one, else cpu.
        precision: number format of forward and backward; auto is float32 on cpu and bfloat16 autocast on cuda;
            float16 comes with a loss scaler; float64 computes all in double precision.
        processes: processes that make the run together, each computing its share of every batch; results are those of
            one process. torchrun's own number counts before it.
        strategy: what each of several processes holds: ddp the whole model, fsdp a part of every weight, of its
            gradient and of the optimizer's state; auto is ddp.
        batchnorm: the statistics of BatchNorm in several processes: sync are those of the whole batch, local those of
            each process's share, which saves messages and is not the result of one process.
        accumulate: loader batches that one update takes.
        compile: "model" compiles the model alone, "step" forward, loss, backward and optimizer as one program; "auto"
            does so in the background where the updates that are left pay for it (CPU).
        updates_per_call: updates in one call of a compiled step; hooks are called once a call; unset chooses about ten
            for a small model, else one.
        cuda_graphs: record a compiled step on CUDA as one graph and replay that, which saves the calls of its kernels.
        tune_convolutions: on CUDA, try cuDNN's algorithms on each new shape and keep to the quickest, which may be
            another one, that rounds otherwise, from process to process.
        channels_last: memory layout of images and convolutions; auto chooses it for convolutional models.
        threads: CPU threads for torch; unset leaves torch's own choice. CPU results depend on it.
        keep_pages: keep freed memory, up to 1 GB, for the next update instead of giving it back to the kernel; glibc
            only.
        fold_batchnorm: evaluate with each BatchNorm folded into the convolution or linear layer before it, where that
            is possible; rounding differs.
        microbatch: the most samples of a loader batch that go through the model at once; the update stays the same.
            "auto" begins with all of them and halves them where memory runs out; unset is all.
        nonfinite: what to do when loss or gradients are not finite: end the run, leave the update out, or go back to
            the last checkpoint with smaller learning rates.
        rollback_factor: what learning rates are multiplied by when the run goes back.
        rollbacks: how often a run goes back before it fails.
        evaluate_every: how often the validation split is measured.
        log_every: how often training loss and metrics are written; nothing waits for the device in between.
        save_every: how often a checkpoint is saved.
        save_pause: seconds after a checkpoint within which `save_every` brings no other, so that short epochs do not
            wait for the disk; it begins after 20 checkpoints, and never holds back the best or the last; 0 for none.
        save_in_background: a checkpoint is copied at its update, and written while training goes on; false lets
            training wait until it is on the disk, and needs no memory for the copy.
        save_best: keep a checkpoint of the best evaluation so far, whenever it is made; false leaves best.json out.
        keep: newest checkpoints to keep, beside the best and those that are pinned.
        monitor: figure that tells the best checkpoint, such as "val.loss" or "val.accuracy".
        on_length_change: what a continued run does whose length is another than its checkpoint's: refuse; rescale, so
            that schedules go on with the new length; or keep the old length for schedules and "dur".
        on_conflict: what a continued run does where hyperparameters of the optimizer, its parameters or the data are
            others than its checkpoint's: refuse, or go on with those of the recipe or of the checkpoint.
    """
