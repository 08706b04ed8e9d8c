"""The run folder: one writer, nothing left of a run that never started, files that are old or new."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from trainkit import MachineError, PluginError, RecipeError, hookimpl
from trainkit.launch import launch
from trainkit.rundir import RunFolder, new_folder_name, write_atomically


def test_a_second_process_is_told_that_the_folder_is_busy(tmp_path):
    code = (
        "import pathlib, sys\n"
        "from trainkit.errors import MachineError\n"
        "from trainkit.rundir import RunFolder\n"
        "try:\n"
        f"    RunFolder(pathlib.Path({str(tmp_path / 'run')!r}))\n"
        "except MachineError as error:\n"
        "    sys.exit(f'{int(error.exit_code)} {error}')\n"
    )

    def second() -> str:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        return done.stderr.strip()

    with RunFolder(tmp_path / "run"):
        told = second()
        assert told.startswith(f"3 {tmp_path / 'run'}: another process is writing to this run folder")
        assert "--run-dir" in told
    assert second() == "", "an empty folder that nobody holds may be used"


def test_two_runs_of_one_process_cannot_share_a_folder_either(tmp_path):
    with RunFolder(tmp_path / "run"), pytest.raises(MachineError, match="another process is writing"):
        RunFolder(tmp_path / "run")


def test_a_folder_that_is_not_empty_is_refused_and_stays_as_it_is(load, plugins, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years", encoding="utf-8")
    with pytest.raises(MachineError, match="the folder is not empty; name a new one with --run-dir"):
        launch(load(), plugins, folder=folder)
    assert (folder / "thesis.tex").read_text(encoding="utf-8") == "years"
    assert {path.name for path in folder.iterdir()} <= {"thesis.tex", ".lock"}


def test_a_finished_run_is_not_written_over(train, load, plugins):
    finished = train()
    before = (finished.folder / "report.json").read_bytes()
    with pytest.raises(MachineError, match="not empty"):
        launch(load(), plugins, folder=finished.folder)
    assert (finished.folder / "report.json").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_an_error_of_the_machine(load, plugins, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(MachineError, match="the run folder cannot be made"):
        launch(load(), plugins, folder=tmp_path / "file" / "run")


FAILS = {
    "a factory that raises": (("model={use='raises'}",), Exception, "no such layer"),
    "a factory that refuses": (("model={use='refuses'}",), RecipeError, "too small"),
    "data that are too few": (("data.samples=10", "data.batch_size=64"), RecipeError, "fewer than batch_size"),
    "a warm-up past the end": (('schedule={use="cosine", warmup="3ep"}',), RecipeError, "the run has 16"),
    "a warm-up and a cool-down past the end": (
        ('schedule={use="cosine", warmup="9ba", cooldown="1ep"}',),
        RecipeError,
        r'warmup = "9ba" is 9 updates, cooldown = "1ep" is 8 updates, the run has 16',
    ),
    "a cool-down past the end": (('schedule={use="cosine", cooldown="3ep"}',), RecipeError, 'cooldown = "3ep" is 24'),
    "milestones out of order": (
        ('schedule={use="multistep", milestones=["1ep", "0.5dur"]}',),
        RecipeError,
        "milestones must rise: 8 updates come after 8",
    ),
    "a milestone of no update": (
        ('schedule={use="multistep", milestones=["0.01ep", "1ep"]}',),
        RecipeError,
        "comes to 0 updates",
    ),
    "a duration of nothing": (('run.duration="0.1ba"',), RecipeError, "no update at all"),
    "tokens of data without": (('run.duration="100tok"',), RecipeError, "tok"),
    "no such parameter": (("optimizer.group=[{match='nothing'}]",), RecipeError, "matches no parameter"),
    "loss and task": (("loss={use='mse'}",), RecipeError, "mse needs data with the task regression"),
}


@pytest.mark.parametrize("name", FAILS)
def test_a_run_that_cannot_be_built_leaves_no_folder(load, plugins, tmp_path, name):
    changes, kind, message = FAILS[name]
    recipe = load(*changes)
    with pytest.raises(kind, match=message):
        launch(recipe, plugins, folder=tmp_path / "new" / "run")
    assert not (tmp_path / "new" / "run").exists()
    with pytest.raises(kind, match=message):
        launch(recipe, plugins)
    assert not list((tmp_path / "runs").iterdir()), "nor under the runs folder"


def test_a_folder_that_was_there_before_stays_when_the_build_fails(load, plugins, tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(RecipeError):
        launch(load("model={use='refuses'}"), plugins, folder=tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_misspelt_hook_of_a_listener_is_found_before_the_run(load, plugins, tmp_path):
    class Misspelt:
        @hookimpl
        def trainkit_epoch_ends(self, run): ...

    class Greedy:
        @hookimpl
        def trainkit_epoch_end(self, loop): ...

    for listener, message in ((Misspelt(), "did you mean 'trainkit_epoch_end'"), (Greedy(), "loop")):
        with pytest.raises(PluginError, match=message):
            launch(load(), plugins, folder=tmp_path / "run", listeners=[listener])
        assert not (tmp_path / "run").exists()


def test_recipe_and_environment_lie_there_before_the_first_update(train):
    class Look:
        found: frozenset[str] = frozenset()

        @hookimpl
        def trainkit_run_start(self, run):
            Look.found = frozenset(os.listdir(run.folder))

    train(listeners=[Look()])
    assert {"recipe.toml", "environment.json"} <= Look.found
    assert "report.json" not in Look.found


def test_a_run_makes_a_folder_of_its_own_named_after_the_recipe(load, plugins, tmp_path):
    first, second = (launch(load("run.duration=1ba"), plugins) for _ in range(2))
    made = sorted((tmp_path / "runs").iterdir())
    assert len(made) == 2
    assert all(path.name.startswith("small-") for path in made)
    assert first.weights_sha256 == second.weights_sha256


@pytest.mark.parametrize(
    ("recipe", "start"),
    [("a/b/resnet.toml", "resnet-"), ("-", "run-"), ("../x y*z.toml", "x-y-z-"), ("." * 9, "run-"), ("p:q", "p-q-")],
)
def test_folder_names_are_plain_whatever_the_recipe_is_called(recipe, start):
    name = new_folder_name(recipe)
    assert name.startswith(start)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert len(new_folder_name("x" * 500)) < 80


def test_a_file_is_the_old_or_the_new_one(tmp_path, monkeypatch):
    target = tmp_path / "report.json"
    write_atomically(target, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomically(target, "new")
    assert target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new"


def test_a_finished_folder_holds_what_the_design_lists_and_no_leftovers(train):
    finished = train('logger=[{use="curves"}]', "run.duration=6ep")
    assert sorted(path.name for path in finished.folder.iterdir() if path.name != ".lock") == [
        "best.json",
        "checkpoints",
        "curves.png",
        "environment.json",
        "history.jsonl",
        "log.txt",
        "metrics.jsonl",
        "recipe.toml",
        "report.json",
    ]
    assert all(path.name.startswith("step-") for path in (finished.folder / "checkpoints").iterdir())


def test_a_run_that_died_before_its_recipe_was_written_is_begun_again(load, plugins, tmp_path):
    """Its start is in the history already, which is durable first."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "history.jsonl").write_text('{"event": "start", "update": 0}\n', encoding="utf-8")
    with pytest.raises(MachineError, match="the folder is not empty"):
        launch(load("run.duration=2ba"), plugins, folder=folder)
    assert launch(load("run.duration=2ba"), plugins, folder=folder, resume=True).status == "finished"
    assert (folder / "history.jsonl").read_text(encoding="utf-8").count('"start"') == 2


@pytest.fixture
def synced(monkeypatch):
    """The names of files and folders that were made durable, in order."""
    names: list[str] = []
    fsync = os.fsync

    def noted(handle: int) -> None:
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return names


@pytest.mark.skipif(sys.platform != "linux", reason="which file is synced is read from /proc")
def test_a_light_run_waits_for_the_disk_at_its_checkpoints_alone(tmp_path, synced):
    with RunFolder(tmp_path / "trials" / "0001", light=True) as folder:
        folder.log("start")
        folder.describe("recipe = 1\n", {"seed": 1})
        folder.metrics({"step": 1, "epoch": 1, "split": "val", "time": 0.1})
        assert synced == []
        folder.make_durable()
        # What going on from the checkpoint needs, and every name on the way to it.
        assert set(synced) == {"recipe.toml", "environment.json", "metrics.jsonl", "0001", "trials", tmp_path.name}
        assert (folder.path / "checkpoints").is_dir()
        assert synced[-1] == "0001", "the names of its files come last"
        synced.clear()
        folder.report({"status": "finished"})
        assert synced == []
    assert (tmp_path / "trials" / "0001" / "report.json").read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform != "linux", reason="which file is synced is read from /proc")
def test_a_light_run_that_goes_on_is_written_as_any_other(tmp_path, synced):
    with RunFolder(tmp_path / "run", light=True) as folder:
        folder.describe("recipe = 1\n", {"seed": 1})
    with RunFolder(tmp_path / "run", resume=True, light=True) as folder:
        folder.describe("recipe = 1\n", {"seed": 1})
        assert len(synced) == 4, "two files, and the folder after each"
        folder.report({"status": "finished"})
        assert synced[4:] == [f".report.json.{os.getpid()}.tmp", "run"]
