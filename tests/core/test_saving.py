"""Saving: in the background and waited for, again where the disk failed, and which checkpoints stay."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest
import torch

from trainkit import CheckpointError, MachineError, checkpoint, hookimpl, snapshot, store
from trainkit.launch import launch
from trainkit.saving import Copy, Saver
from trainkit.verified import MIN_PIECE


def tensors_of(step: int) -> dict[str, torch.Tensor]:
    return {"model/a": torch.full((5, 7), float(step)), "flag": torch.tensor([True]), "empty": torch.zeros(0, 3)}


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def parent(tmp_path):
    return tmp_path / "run" / "checkpoints"


@pytest.fixture(params=[True, False], ids=["background", "waited"])
def saver(request, parent):
    parent.parent.mkdir()
    saver = Saver(parent, 2, request.param)
    yield saver
    saver.close()


def test_what_changes_after_a_save_has_come_back_is_not_in_it(saver, parent):
    for step in (1, 2, 3):
        tensors, state = tensors_of(step), {"step": step}
        saver.save(step, tensors, state)
        tensors["model/a"].fill_(99.0)
        state["step"] = 99
    saver.wait()
    for step in (2, 3):
        held, state = checkpoint.load(parent / checkpoint.folder_name(step))
        assert torch.equal(held["model/a"], tensors_of(step)["model/a"])
        assert (state, held["empty"].shape, held["flag"].tolist()) == ({"step": step}, (0, 3), [True])
    assert [path.name[-1] for path in checkpoint.newest_first(parent)] == ["3", "2"]


def test_the_copy_is_laid_out_anew_when_tensors_change_and_used_again_when_they_do_not():
    copy = Copy()
    one = {"a": torch.arange(6.0).reshape(2, 3).t(), "b": torch.tensor([1, 2], dtype=torch.uint8)}
    assert bytes(copy.take(one)) == checkpoint.to_safetensors(one)
    place = copy._memory.data_ptr()
    one["a"].add_(1)
    assert bytes(copy.take(one)) == checkpoint.to_safetensors(one)
    assert copy._memory.data_ptr() == place
    for other in (one | {"c": torch.ones(300, dtype=torch.bfloat16)}, {"a": torch.ones(1)}, {}):
        assert bytes(copy.take(other)) == checkpoint.to_safetensors(other)


def test_what_the_thread_meets_is_raised_at_the_next_step(parent, monkeypatch):
    parent.parent.mkdir()
    saver = Saver(parent, 2, True)
    saver.save(1, tensors_of(1), {})
    saver.wait()
    monkeypatch.setattr(os, "write", _no_room)
    saver.save(2, tensors_of(2), {})
    saver._idle.wait()
    assert saver.failed
    with pytest.raises(MachineError, match=r"checkpoint at update 2 could not be written: No space left") as raised:
        saver.check()
    assert raised.value.exit_code == 3
    saver.check()  # it is told once
    saver.close()
    assert names(parent) == ["step-000000000001"]


def _no_room(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_run_ends_at_the_update_after_a_save_that_failed(train, tmp_path, monkeypatch):
    class Fill:
        steps = 0

        @hookimpl
        def trainkit_step_end(self, run):
            self.steps = run.step
            if run.step == 3:
                deadline.wait(0.2)  # the save at update 2 is over by then
                monkeypatch.setattr(store, "write", _no_room)
            if run.step == 5:
                deadline.wait(0.2)

    deadline, fill = threading.Event(), Fill()
    with pytest.raises(MachineError, match="checkpoint at update 4 could not be written"):
        train("run.duration=1000ep", "run.save_every=2ba", listeners=[fill])
    assert fill.steps == 5, "the thread had failed by then"
    assert checkpoint.load_newest(tmp_path / "run-1" / "checkpoints")[2]["step"] == 2


def test_no_thread_is_left_behind(train):
    before = threading.active_count()
    train("run.duration=4ba", "run.save_every=1ba")
    assert threading.active_count() == before


def test_both_ways_write_the_same_bytes(train):
    one, other = (train("model.dropout=0.3", f"run.save_in_background={word}") for word in ("true", "false"))
    assert one.checkpoints == other.checkpoints
    for step in one.checkpoints:
        files = [
            run.folder / "checkpoints" / checkpoint.folder_name(step) / "tensors.safetensors" for run in (one, other)
        ]
        assert files[0].read_bytes() == files[1].read_bytes()


# ---------------------------------------------------------------- a disk that fails


@pytest.mark.parametrize("where", ["fsync", "write", "rename", "mkdir"])
def test_a_failure_that_passes_is_tried_again_in_a_new_folder(parent, monkeypatch, where):
    parent.mkdir(parents=True)
    real, seen = getattr(os, where), []

    def once(*args, **named):
        seen.append(names(parent))
        if len(seen) == 1:
            raise OSError(errno.EIO, "input/output error")
        return real(*args, **named)

    monkeypatch.setattr(os, where, once)
    made = store.write(os.fspath(parent), 7, {"tensors.safetensors": [b"x"], "state.json": [b"{}"]})
    monkeypatch.undo()
    assert os.path.basename(made) == "step-000000000007"
    if where == "fsync":  # pages that could not be written count as clean: none of them may be used again
        assert seen[0] == [f".tmp-7-{os.getpid()}-0"]
        assert seen[1] == [f".tmp-7-{os.getpid()}-1"]
    assert names(parent) == ["step-000000000007"]


def test_the_third_failure_is_the_last(parent, monkeypatch):
    parent.mkdir(parents=True)
    tries = []

    def fail(number):
        tries.append(names(parent))
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="input/output"):
        store.write(os.fspath(parent), 7, {"tensors.safetensors": [b"x"]})
    monkeypatch.undo()
    assert len(tries) == 3
    assert names(parent) == []


def test_what_lay_ready_to_be_written_over_makes_room(parent, monkeypatch):
    for step in (1, 2, 3):
        checkpoint.save(parent, step, tensors_of(step), {})
    store.prune(parent, 2)
    assert names(parent)[0] == ".spare"
    real, calls = os.write, []

    def full_at_first(number, data):
        calls.append(1)
        if len(calls) == 1:
            _no_room()
        return real(number, data)

    monkeypatch.setattr(os, "write", full_at_first)
    checkpoint.save(parent, 4, tensors_of(4), {})
    assert names(parent) == [checkpoint.folder_name(step) for step in (2, 3, 4)]


def test_a_save_that_is_cut_off_while_it_replaces_one_of_the_same_step_loses_neither(parent, monkeypatch):
    checkpoint.save(parent, 4, tensors_of(1), {"first": True})
    real, calls = os.rename, []

    def cut(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "rename", cut)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(parent, 4, tensors_of(2), {"first": False})
    monkeypatch.undo()
    store.recover(parent)
    assert checkpoint.load_newest(parent)[2] == {"first": True}
    checkpoint.save(parent, 4, tensors_of(2), {"first": False})
    store.tidy(parent)
    assert checkpoint.load_newest(parent)[2] == {"first": False}
    assert names(parent) == ["step-000000000004"]


def test_a_folder_is_flushed_where_its_names_are_new_or_were_not_made_here(parent, monkeypatch):
    parent.mkdir(parents=True)
    real, flushed = os.fsync, []

    def fsync(number):
        flushed.append(stat.S_ISDIR(os.fstat(number).st_mode))
        real(number)

    def folders(saver, step):
        flushed.clear()
        saver.save(step, tensors_of(step), {})
        assert flushed.count(False) == 3
        return flushed.count(True)

    monkeypatch.setattr(os, "fsync", fsync)
    one, other = (Saver(parent, 2, False) for _ in range(2))
    # The checkpoint's own folder and the one above; from the fourth on one is written over.
    assert [folders(one, step) for step in (1, 2, 3, 4, 5)] == [2, 2, 2, 1, 1]
    # Another process knows nothing of the two that lie there, and flushes each before it may be written over.
    assert [folders(other, step) for step in (6, 7, 8, 9)] == [2, 2, 1, 1]
    assert checkpoint.load_newest(parent)[0].name == checkpoint.folder_name(9)


# ---------------------------------------------------------------- what stays


def test_pinned_checkpoints_stay_and_so_does_what_no_run_has_written(parent):
    for step in range(1, 7):
        checkpoint.save(parent, step, tensors_of(step), {})
        if step == 2:
            (parent / f"{checkpoint.folder_name(2)}.pin").touch()
            (parent / "step-of-mine").mkdir()
        store.prune(parent, 2, checkpoint.folder_name(1))
    store.tidy(parent)
    assert [path.name[-1] for path in checkpoint.newest_first(parent)] == ["6", "5", "2", "1"]
    assert (parent / "step-of-mine").is_dir()


@pytest.mark.parametrize("background", [False, True])
def test_a_checkpoint_that_is_saved_pinned_is_never_there_without_its_pin(parent, monkeypatch, background):
    saver, written, seen = Saver(parent, 2, background), store.write, []

    def write(top, step, contents):
        seen.append((step, (parent / f"{checkpoint.folder_name(step)}.pin").exists()))
        return written(top, step, contents)

    monkeypatch.setattr(store, "write", write)
    for step in range(1, 8):
        saver.save(step, tensors_of(step), {}, pinned=step in (2, 3))
    saver.wait()
    saver.close()
    assert seen == [(step, step in (2, 3)) for step in range(1, 8)]
    assert [path.name[-1] for path in checkpoint.newest_first(parent)] == ["7", "6", "3", "2"]
    store.pin(str(parent), 3)  # twice is once


def test_numbers_with_more_digits_are_newer(parent):
    for step in (9 * 10**11, 10**12, 10**12 + 1):
        checkpoint.save(parent, step, {}, {"step": step})
    store.prune(parent, 2)
    assert [store.step_of(path.name) for path in checkpoint.newest_first(parent)] == [10**12 + 1, 10**12]


def test_the_checkpoint_that_a_run_goes_on_from_stays_until_two_newer_ones_verify(parent):
    checkpoint.save(parent, 1, tensors_of(1), {})
    saver = Saver(parent, 2, False)
    saver.resumed_from(checkpoint.folder_name(1))
    for step in (2, 3, 4):
        saver.save(step, tensors_of(step), {})
        if step == 2:  # as a disk would damage it
            (parent / checkpoint.folder_name(2) / "state.json").write_text("{} ", encoding="utf-8")
        kept = {store.step_of(path.name) for path in checkpoint.newest_first(parent)}
        assert (1 in kept) == (step < 4), step
    saver.close()


def test_a_copy_by_hard_links_keeps_its_contents(parent, tmp_path):
    checkpoint.save(parent, 1, tensors_of(1), {"step": 1})
    (tmp_path / "backup").mkdir()
    kept = tmp_path / "backup" / checkpoint.folder_name(1)
    kept.mkdir()
    for file in (parent / checkpoint.folder_name(1)).iterdir():
        os.link(file, kept / file.name)
    for step in (2, 3, 4, 5):
        checkpoint.save(parent, step, tensors_of(step), {"step": step})
        store.prune(parent, 2)
    assert checkpoint.load(kept)[1] == {"step": 1}


def test_a_file_that_somebody_left_in_a_checkpoint_does_not_travel_into_the_next(parent):
    checkpoint.save(parent, 1, tensors_of(1), {})
    (parent / checkpoint.folder_name(1) / "notes.txt").write_text("mine", encoding="utf-8")
    for step in (2, 3, 4, 5):
        checkpoint.save(parent, step, tensors_of(step), {})
        store.prune(parent, 2)
        checkpoint.load(parent / checkpoint.folder_name(step))


def test_a_checkpoint_in_the_folder_of_another_step_is_refused(parent):
    made = checkpoint.save(parent, 5, tensors_of(5), {})
    made.rename(parent / checkpoint.folder_name(8))
    with pytest.raises(CheckpointError, match="it is the checkpoint of step 5, in the folder of another"):
        checkpoint.load(parent / checkpoint.folder_name(8))


# ---------------------------------------------------------------- large files, layouts in memory


def test_large_files_have_a_checksum_for_each_piece_and_damage_in_any_is_noticed(parent):
    size = 3 * MIN_PIECE + 5
    made = checkpoint.save(parent, 1, {"a": torch.arange(size, dtype=torch.int64).to(torch.uint8)}, {})
    file = made / "tensors.safetensors"
    held, _ = checkpoint.load(made)
    assert torch.equal(held["a"], torch.arange(size, dtype=torch.int64).to(torch.uint8))
    for place in (0, MIN_PIECE - 1, MIN_PIECE, 2 * MIN_PIECE + 77, file.stat().st_size - 1):
        with file.open("r+b") as opened:
            opened.seek(place)
            before = opened.read(1)
            opened.seek(place)
            opened.write(bytes([before[0] ^ 4]))
        with pytest.raises(CheckpointError, match="SHA-256"):
            checkpoint.load(made)
        with file.open("r+b") as opened:
            opened.seek(place)
            opened.write(before)
    checkpoint.load(made)


def test_tensors_lie_in_memory_as_they_did():
    tensors = {
        "optimizer/q": torch.arange(12.0).reshape(3, 4).t(),
        "plugin/x": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "plain": torch.ones(3, 4),
        "every other": torch.arange(10.0)[::2],
    }
    strides = snapshot.strides_of(tensors)
    assert strides == {"optimizer/q": [1, 4], "plugin/x": [60, 1, 15, 3]}
    saved = {name: tensor.contiguous() for name, tensor in tensors.items()}
    for name, tensor in snapshot.laid_out(saved, strides).items():
        assert torch.equal(tensor, tensors[name])
        assert name == "every other" or tensor.stride() == tensors[name].stride()
    for wrong in ([1, 2**40], [4], [1, 3], [0, 0]):
        with pytest.raises(ValueError, match="do not fit optimizer/q"):
            snapshot.laid_out(saved, {"optimizer/q": wrong})


def test_a_smoke_run_leaves_no_thread_either(load, plugins):
    from trainkit.launch import launch

    before = threading.active_count()
    assert launch(load(), plugins, smoke=True).status == "finished"
    assert threading.active_count() == before


def test_optimizer_state_of_the_shape_of_its_parameter_comes_back_as_it_lay(train, load, plugins):
    """As SOAP's eigenbases do: transposed, of a square weight that itself lies row by row."""
    from trainkit.launch import launch

    class Turn:
        stateless = True

        def __init__(self, stop):
            self.stop, self.seen = stop, []

        @hookimpl
        def trainkit_step_end(self, run):
            for parameter, state in run.optimizer.state.items():
                for key, held in state.items():
                    if isinstance(held, torch.Tensor) and held.shape == parameter.shape == (6, 6):
                        if run.step == 3:
                            state[key] = held.t().contiguous().t()
                        elif run.step > 3:
                            self.seen.append(held.stride())
            if run.step == self.stop:
                run.stop_reason = "the test asked for it"

    words = ("model.widths=[6]", "optimizer.momentum=0.9", "run.duration=6ba")
    before, after = Turn(4), Turn(None)
    finished = train(*words, listeners=[before])
    launch(load(*words), plugins, folder=finished.folder, resume=True, listeners=[after])
    assert before.seen == [(1, 6)]
    assert after.seen == [(1, 6), (1, 6)]


def test_without_save_best_only_what_is_due_is_saved(train):
    changes = ("run.duration=6ep", "run.save_every=1dur")
    kept, plain = train(*changes), train(*changes, "run.save_best=false")
    assert kept.report.best == plain.report.best
    assert plain.checkpoints == [48]
    assert (kept.folder / "best.json").exists()
    assert not (plain.folder / "best.json").exists()
    assert kept.report.weights_sha256 == plain.report.weights_sha256


def test_a_run_that_goes_on_without_save_best_drops_the_best_of_before(train, load, plugins):
    begun = train("run.duration=2ep")
    assert (begun.folder / "best.json").exists()
    changes = ("run.duration=3ep", "run.on_length_change=rescale", "run.save_best=false")
    launch(load(*changes), plugins, folder=begun.folder, resume=True)
    assert not (begun.folder / "best.json").exists()
