"""What is remembered of the plugins: it saves time, and never changes what a command says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from trainkit import catalogue
from trainkit.catalogue import Catalogue, Entry
from trainkit.errors import MachineError

PLUGIN = """\
from trainkit import Component, hookimpl
from {helper} import HELP
def {name}(*, factor: float = 2.0):
    ...
{name}.__doc__ = HELP
@hookimpl
def trainkit_components():
    return [Component("callback", {name})]
"""
HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "pandas")
EXPERIMENT = """\
import json, runpy, sys
sys.argv = ["trainkit", *{words!r}]
try:
    runpy.run_module("trainkit", run_name="__main__", alter_sys=True)
except SystemExit as done:
    code = done.code
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
raise SystemExit(code)
"""


def age() -> None:
    """Wait until the times of what was written just now tell it apart from what is written later."""
    time.sleep(catalogue.GRAIN / 1e9 + 0.1)


class Site:
    """A folder of installed packages, and commands that find them there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        self.cache = folder / "cache"
        # Python itself does not see a file that changes within a second and keeps its length.
        self.bytecode = {"PYTHONDONTWRITEBYTECODE": "1"}

    def install(self, name: str, help: str = "Made up.", version: str = "1.0") -> None:
        (self.folder / f"{name}_help.py").write_text(f"HELP = {help!r}\n", encoding="utf-8")
        text = PLUGIN.format(name=name, helper=f"{name}_help")
        (self.folder / f"{name}_plugin.py").write_text(text, encoding="utf-8")
        info = self.folder / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[trainkit]\n{name} = {name}_plugin\n", encoding="utf-8")

    def remove(self, name: str) -> None:
        for info in self.folder.glob(f"{name}-*.dist-info"):
            for file in info.iterdir():
                file.unlink()
            info.rmdir()

    def run(self, *words: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
        """Run a command; what it said, and the modules that it imported."""
        code = EXPERIMENT.format(words=words)
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder),
                "TRAINKIT_CACHE": str(self.cache),
                "TRAINKIT_PLUGIN_CACHE": "on",
                **self.bytecode,
                **environment,
            },
            cwd=self.folder.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        *said, modules = done.stderr.splitlines() or [""]
        done.stderr = "\n".join(said)
        return done, set(json.loads(modules))

    def listed(self, **environment: str) -> tuple[str, bool]:
        """What ``list callback`` says, and whether plugins were imported for it."""
        done, modules = self.run("list", "callback", **environment)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout, "trainkit_callbacks" in modules

    @property
    def file(self) -> Path:
        """The file that remembers."""
        (file,) = (self.cache / "plugins").iterdir()
        return file


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    made = Site(tmp_path_factory.mktemp("shared"))
    made.install("first", "The first.")
    made.bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(made.folder.parent / "bytecode")}
    age()
    return made


@pytest.fixture
def site(shared: Site, tmp_path: Path) -> Site:
    """A site that tests share, and leave as it is; the cache is the test's own."""
    shared.cache = tmp_path / "cache"
    return shared


@pytest.fixture
def own(tmp_path: Path) -> Site:
    """A site of the test's own."""
    made = Site(tmp_path)
    made.install("first", "The first.")
    age()
    return made


def test_what_was_listed_once_is_listed_without_importing_plugins(site):
    assert site.listed() == site.listed(TRAINKIT_PLUGIN_CACHE="off")  # the first one imports, and remembers
    said, imported = site.listed()
    assert not imported
    assert "The first." in said
    assert site.listed(TRAINKIT_PLUGIN_CACHE="off") == (said, True)


def test_plugins_that_come_go_or_change_are_seen_at_once(own):
    own.listed()
    assert not own.listed()[1]
    own.install("second", "The second.")
    said, imported = own.listed()
    assert imported
    assert "The second." in said

    age()
    own.listed()
    assert not own.listed()[1]
    helper = own.folder / "first_help.py"
    seen = helper.stat()
    helper.write_text("HELP = 'The farst.'\n", encoding="utf-8")  # of the same length
    os.utime(helper, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # and of the same age
    said, imported = own.listed()
    assert imported
    assert "The farst." in said

    age()
    own.listed()
    assert not own.listed()[1]
    own.remove("second")
    said, imported = own.listed()
    assert imported
    assert "The second." not in said

    info = own.folder / "first-1.0.dist-info" / "entry_points.txt"
    info.write_text("[trainkit]\nother = first_plugin\n", encoding="utf-8")
    done, _ = own.run("plugins")
    assert "other" in done.stdout


def test_a_module_that_hides_a_remembered_one_is_seen_at_once(own):
    earlier = own.folder.parent / "earlier"
    earlier.mkdir()
    path = os.pathsep.join([str(earlier), str(own.folder)])
    own.listed(PYTHONPATH=path)
    assert not own.listed(PYTHONPATH=path)[1]
    (earlier / "first_help.py").write_text("HELP = 'Another.'\n", encoding="utf-8")
    said, imported = own.listed(PYTHONPATH=path)
    assert imported
    assert "Another." in said


def test_without_a_known_home_nothing_is_taken_from_the_working_directory(monkeypatch):
    for variable in ("TRAINKIT_CACHE", "TRAINKIT_PLUGIN_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(os.path, "expanduser", lambda path: os.path.join(os.sep, "home"))
    assert catalogue.cache_folder() == os.path.join(os.sep, "home", ".cache", "trainkit")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where neither HOME nor the system knows it
    with pytest.raises(MachineError, match="TRAINKIT_CACHE"):
        catalogue.cache_folder()
    assert Catalogue.open() is None


def test_a_recipe_imports_the_plugins_that_it_names(site):
    (site.folder.parent / "small.toml").write_text(
        '[run]\nduration = "1ep"\n[data]\nuse = "digits"\n[model]\nuse = "linear"\n[loss]\nuse = "cross_entropy"\n'
        '[optimizer]\nuse = "sgd"\nlr = 0.1\n',
        encoding="utf-8",
    )
    first, modules = site.run("validate", "small.toml")
    assert "trainkit_kozistr" in modules
    second, modules = site.run("validate", "small.toml")
    assert "trainkit_optimizers" in modules
    assert not {"trainkit_kozistr", "trainkit_callbacks", "first_plugin", "importlib.metadata"} & modules
    assert not {*HEAVY, "pydantic"} & modules
    assert (second.returncode, second.stdout, second.stderr) == (first.returncode, first.stdout, first.stderr)
    # What nobody supplies is looked for in every plugin.
    wrong, modules = site.run("validate", "small.toml", "optimizer.use=sgdd")
    assert (wrong.returncode, "trainkit_kozistr" in modules) == (2, True)
    assert "did you mean 'sgd'" in wrong.stderr


def sealed(content: object) -> bytes:
    """A file that its checksum vouches for."""
    data = json.dumps(content).encode()
    return b"trainkit plugins %d %08x\n" % (catalogue.FORMAT, zlib.crc32(data)) + data


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A catalogue of this process with its file."""
    monkeypatch.setenv("TRAINKIT_CACHE", str(tmp_path))
    monkeypatch.setattr(catalogue, "_read_files", lambda packages: [])
    made = Catalogue()
    made.write({identity: [Entry("loss", identity[0], "Made up.", {})] for identity in made.plugins})
    assert made.read() is not None
    return made


def damaged(whole: bytes) -> dict[str, bytes]:
    """Files that are no good, by what is wrong with them."""
    content = json.loads(whole.partition(b"\n")[2])
    plugins = content["plugins"]
    named = {
        "no keys": {},
        "no object": [],
        "nothing": None,
        "no plugins": {key: value for key, value in content.items() if key != "plugins"},
        "a key too many": content | {"more": 1},
        "plugins of no form": content | {"plugins": None},
        "empty plugins": content | {"plugins": [[]]},
        "another module": content | {"plugins": [[*plugin[:1], "os", *plugin[2:]] for plugin in plugins]},
        "a plugin too few": content | {"plugins": plugins[1:]},
        "a plugin too many": content | {"plugins": [*plugins, ["os", "os", "os", "1.0", []]]},
        "components of no texts": content | {"plugins": [[*plugin[:4], [[1, 2, 3, 4]]] for plugin in plugins]},
        "libraries of no form": content
        | {"plugins": [[*plugin[:4], [["loss", "a", "b", {"c": 1}]]] for plugin in plugins]},
        "files of no form": content | {"files": [[1]]},
        "a file that cannot be": content | {"files": [["\0", 1, 1, 1]]},
        "a file that has changed": content | {"files": [[__file__, 1, 1, 1]]},
        "another environment": content | {"environment": []},
    }
    return {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "a letter changed": whole.replace(b"Made up.", b"Mode up."),
        "another's": whole.replace(b"trainkit plugins", b"tra1nkit plugins"),
        "zeros": b"\0" * len(whole),
        "deep": b"trainkit plugins 1 %08x\n" % zlib.crc32(b"[" * 100_000) + b"[" * 100_000,
        **{name: sealed(wrong) for name, wrong in named.items()},
    }


def test_a_file_that_is_damaged_or_made_up_is_left_unread(written):
    file = Path(written.file)
    whole = file.read_bytes()
    for name, made in damaged(whole).items():
        file.write_bytes(made)
        assert written.read() is None, name
    file.write_bytes(whole)
    assert written.read() is not None


def test_a_file_that_is_damaged_changes_nothing_and_is_put_right(site):
    said, _ = site.listed()
    whole = site.file.read_bytes()
    for made in (whole[:-1], b"", damaged(whole)["another module"]):
        site.file.write_bytes(made)
        assert site.listed() == (said, True)
        assert site.file.read_bytes() == whole


def test_a_component_that_is_not_what_was_remembered_of_it_is_looked_for_in_every_plugin(site):
    right, _ = site.run("describe", "callback", "first")
    content = json.loads(site.file.read_bytes().partition(b"\n")[2])
    for plugin in content["plugins"]:
        if plugin[0] == "callbacks":
            plugin[4].append(["callback", "first", "Taken over.", {}])
        if plugin[0] == "first":
            plugin[4] = []
    site.file.write_bytes(sealed(content))
    done, modules = site.run("describe", "callback", "first")
    assert (done.returncode, done.stdout) == (0, right.stdout)
    assert "trainkit_kozistr" in modules


@pytest.mark.skipif(os.name != "posix", reason="owners, links and pipes as posix has them")
def test_what_others_can_write_is_not_read(site):
    said, _ = site.listed()
    whole = site.file.read_bytes()
    site.file.chmod(0o666)
    assert site.listed() == (said, True)
    file = site.file
    file.unlink()
    elsewhere = site.folder.parent / "elsewhere.json"
    elsewhere.write_bytes(whole)
    elsewhere.chmod(0o600)
    file.symlink_to(elsewhere)
    assert site.listed() == (said, True)
    file.unlink()
    os.mkfifo(file)
    assert site.listed() == (said, True)  # and nobody waits for it
    assert site.listed() == (said, False)


def test_a_folder_that_cannot_be_written_is_no_matter(site):
    site.cache.write_text("a file where the folder would be", encoding="utf-8")
    said, imported = site.listed()
    assert imported
    assert site.listed() == (said, True)


def test_a_broken_plugin_is_never_remembered(own):
    own.install("broken")
    (own.folder / "broken_plugin.py").write_text("raise RuntimeError('broken')\n", encoding="utf-8")
    age()
    for _ in range(2):
        done, modules = own.run("list", "callback")
        assert "trainkit_callbacks" in modules
        assert done.stderr.startswith("warning: plugin 'broken'")


def test_what_was_written_a_moment_ago_is_not_remembered(own):
    own.install("fresh")
    own.listed()
    assert not (own.cache / "plugins").exists()


def test_many_may_write_at_once(site):
    environment = {**os.environ, "PYTHONPATH": str(site.folder), "TRAINKIT_CACHE": str(site.cache), **site.bytecode}
    environment["TRAINKIT_PLUGIN_CACHE"] = "on"
    command = [sys.executable, "-P", "-m", "trainkit", "list", "callback"]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = {process.communicate(timeout=60)[0] for process in running}
    assert {process.returncode for process in running} == {0}
    assert said == {site.listed()[0]}
    assert [file.suffix for file in (site.cache / "plugins").iterdir()] == [".json"]
    assert not site.listed()[1]


def test_a_finder_of_packages_that_no_folder_shows_turns_it_off(monkeypatch):
    class Finder:
        def find_spec(self, *_):
            return None

        def find_distributions(self, *_):
            return []

    monkeypatch.delenv("TRAINKIT_PLUGIN_CACHE")
    assert Catalogue.open() is not None
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert Catalogue.open() is None


def test_an_entry_is_what_it_was_after_a_file():
    entry = Entry("callback", "ema", "Average.", {"x": "pip install x"})
    assert catalogue._entry(*json.loads(json.dumps(entry.as_list()))).as_list() == entry.as_list()


@pytest.mark.parametrize(
    "words",
    [["--help"], ["run", "--help"], ["list"], ["list", "recipes"], ["describe", "optimizer", "kozistr:soap"]],
    ids=" ".join,
)
@pytest.mark.parametrize("remembered", ["on", "off"])
def test_verbs_that_build_nothing_import_nothing_heavy(site, words, remembered):
    done, modules = site.run(*words, TRAINKIT_PLUGIN_CACHE=remembered)
    assert done.returncode == 0, done.stderr
    assert not modules & {*HEAVY, "pydantic"}
