"""The compiler's files: private to a process, proven whole before they are used, and published at once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch

from trainkit import compile_cache
from trainkit.compile_cache import MANIFEST, VARIABLE, CompileCache

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
NOTE = 'compile = "step" is not used'


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache of its own."""
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "cache" / "compiled"


def filled(said: list[str]) -> CompileCache:
    cache = CompileCache("key", said.append)
    (cache.folder / "ab").mkdir()
    (cache.folder / "ab" / "main.so").write_bytes(bytes(range(200)))
    (cache.folder / "ab" / "main.cpp").write_text("int main() {}")
    return cache


def test_what_one_process_publishes_the_next_begins_with(home, said):
    first = filled(said)
    with first.used():
        assert os.environ[VARIABLE] == str(first.folder)
    assert VARIABLE not in os.environ
    first.publish()
    second = CompileCache("key", said.append)
    assert second.folder != first.folder
    assert (second.folder / "ab" / "main.so").read_bytes() == bytes(range(200))
    assert not (CompileCache("other", said.append).folder / "ab").exists()
    assert said == []


@pytest.mark.parametrize("harm", ["short", "zeros", "gone", "more", "manifest"])
def test_a_damaged_cache_is_thrown_away_and_said_once(home, said, harm):
    filled(said).publish()
    path = home / "key" / "ab" / "main.so"
    if harm == "short":
        path.write_bytes(path.read_bytes()[:100])
    elif harm == "zeros":
        path.write_bytes(bytes(200))
    elif harm == "gone":
        path.unlink()
    elif harm == "more":
        path.with_name("other.so").write_bytes(b"x")
    else:
        (home / "key" / MANIFEST).write_text("{")
    cache = CompileCache("key", said.append)
    assert list(cache.folder.iterdir()) == []
    assert not (home / "key").exists()
    assert len(said) == 1
    assert "is damaged" in said[0]
    filled(said).publish()
    assert (CompileCache("key", said.append).folder / "ab" / "main.so").is_file()
    assert len(said) == 1


def test_a_folder_replaced_while_it_is_copied_is_no_damage(home, said, monkeypatch):
    filled(said).publish()
    copy = compile_cache._copy_whole

    def replaced(source: Path, target: Path) -> None:
        monkeypatch.setattr(compile_cache, "_copy_whole", copy)
        later = CompileCache("key", said.append)
        (later.folder / "new.so").write_bytes(b"new")
        later.publish()
        raise ValueError("half of each")

    monkeypatch.setattr(compile_cache, "_copy_whole", replaced)
    assert (CompileCache("key", said.append).folder / "new.so").read_bytes() == b"new"
    assert said == []


def test_folders_of_killed_processes_are_removed(home, said):
    cache = filled(said)
    dead = home / f"{compile_cache._OURS}999999999-{compile_cache._machine()}-x"
    elsewhere = home / f"{compile_cache._OURS}999999999-0-x"  # of another machine with the same home
    dead.mkdir()
    elsewhere.mkdir()
    CompileCache("key", said.append)
    assert not dead.exists()
    assert elsewhere.exists()
    assert cache.folder.is_dir()


def test_a_path_with_a_blank_and_a_folder_that_cannot_be_written_are_avoided(tmp_path, monkeypatch, said):
    monkeypatch.delenv(VARIABLE, raising=False)
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "a b", tmp_path / "file"):
        monkeypatch.setenv("TRAINKIT_CACHE", str(folder))
        cache = CompileCache("key", said.append)
        assert cache.folder.is_dir()
        assert " " not in str(cache.folder)
        cache.publish()
    assert said == []


@pytest.mark.skipif(os.name != "posix", reason="others are known by their numbers")
@pytest.mark.parametrize("harm", ["writable", "owner"])
def test_programs_that_another_user_could_have_put_there_are_never_loaded(home, said, monkeypatch, harm):
    filled(said).publish()
    if harm == "writable":
        home.chmod(0o777)
    else:
        number = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: number)
    cache = CompileCache("key", said.append)
    assert home not in cache.folder.parents
    assert list(cache.folder.iterdir()) == []


def test_a_folder_that_the_user_names_stays_torchs_own(tmp_path, monkeypatch, said):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine"))
    cache = CompileCache("key", said.append)
    assert cache.folder == tmp_path / "mine"
    assert not cache.start_afresh()


def forget() -> None:
    """What this process has in memory of compiled programs, as if another one began."""
    from torch._inductor.utils import clear_caches

    clear_caches()
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_run_with_every_file_of_the_cache_cut_short_compiles_again(train, home, tmp_path, capfd, monkeypatch):
    """Where hashes tell, and where, as in torch's own cache, nothing tells before the files are used."""
    forget()
    changes = "run.duration=3ba", "model.widths=[2]", "run.compile=step", "run.updates_per_call=1"
    whole = train(*changes)
    (published,) = [path for path in home.iterdir() if not path.name.startswith(".")]
    for path in published.rglob("*"):
        if path.suffix in (".so", ".cpp"):
            os.truncate(path, 100)
    shutil.copytree(published, tmp_path / "cut")
    for checked in (True, False):
        if not checked:
            monkeypatch.setattr(compile_cache, "_copy_whole", lambda a, b: shutil.copytree(a, b, dirs_exist_ok=True))
        shutil.rmtree(published)
        shutil.copytree(tmp_path / "cut", published)
        forget()
        again = train(*changes)
        said = capfd.readouterr().err
        assert NOTE not in said
        assert said.count("is damaged") == checked
        assert again.report.weights_sha256 == whole.report.weights_sha256


@pytest.mark.slow
def test_without_a_compiler_that_works_the_run_goes_on_eagerly_and_says_so_once(train, home, capfd):
    """As in an environment whose path has a blank, where torch passes the compiler broken options."""
    import torch._inductor.config as inductor

    eager = train("run.duration=1ep")
    forget()
    with inductor.patch({"cpp.cxx": ("/bin/false",)}):
        compiled = train("run.duration=1ep", "run.compile=step", "run.updates_per_call=1")
    forget()
    assert capfd.readouterr().err.count(NOTE) == 1
    assert compiled.report.weights_sha256 == eager.report.weights_sha256
