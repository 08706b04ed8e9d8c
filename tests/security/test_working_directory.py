"""Nothing runs because of the folder one stands in, whatever a stranger has put there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = """\
recipe = 1
seed = 3
[run]
duration = "1ep"
threads = 1
device = "cpu"
[data]
use = "synthetic"
samples = 48
batch_size = 8
[model]
use = "linear"
[loss]
use = "cross_entropy"
[optimizer]
use = "sgd"
lr = 0.1
"""
MODULES = (
    *(
        "torch",
        "numpy",
        "tomllib",
        "tomli",
        "argparse",
        "json",
        "pluggy",
        "pydantic",
        "safetensors",
        "filelock",
        "rich",
    ),
    *("sitecustomize", "usercustomize", "conftest", "setup", "__main__", "__init__", "evil", "matplotlib", "profile"),
)
GROUPS = ("trainkit", "torch.backends", "torch_dynamo_backends", "pydantic", "pytest11", "console_scripts")
SCRIPT = shutil.which("trainkit", path=os.path.dirname(sys.executable)) or ""
WAYS = {
    "module": [sys.executable, "-m", "trainkit"],
    "script": [SCRIPT],
    "safe path": [sys.executable, "-P", "-m", "trainkit"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stranger's folder: modules of known names, an installed-looking package, settings of libraries."""
    for name in MODULES:
        (tmp_path / f"{name}.py").write_text(f"import os\nos.write(2, b'MARK {name}')\n", encoding="utf-8")
    info = tmp_path / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n", encoding="utf-8")
    points = "".join(f"[{group}]\nevil = evil:load\n" for group in GROUPS)
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    (tmp_path / "evil.pth").write_text("import os; os.write(2, b'MARK pth')\n", encoding="utf-8")
    (tmp_path / "pyvenv.cfg").write_text("home = .\n", encoding="utf-8")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nbackend: module://evil\n", encoding="utf-8")
    (tmp_path / "small.toml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


def run(folder: Path, way: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [*WAYS[way], *words],
        cwd=folder,
        env=known | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("way", WAYS)
def test_what_lies_there_stays_unread(folder, way):
    if not WAYS[way][0]:
        pytest.skip("the console script is not installed")
    for words in (["plugins"], ["small.toml", "--run-dir", f"run-{way[:4]}", "-q"]):
        done = run(folder, way, *words)
        assert (done.returncode, "MARK" in done.stdout + done.stderr) == (0, False), done.stderr
        assert "evil" not in done.stdout
    if "curves.png" in os.listdir(folder / f"run-{way[:4]}"):
        assert (folder / f"run-{way[:4]}" / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", [os.pathsep, f"{os.pathsep}/nowhere", f"/nowhere{os.pathsep}", "."])
def test_an_empty_part_of_the_python_path_does_not_bring_it_back(folder, path):
    for name in ("sitecustomize", "usercustomize", "profile"):  # Python reads these before anything of ours
        (folder / f"{name}.py").unlink()
    # What Python itself needs before the path is right.
    for name in ("argparse", "json"):
        (folder / f"{name}.py").unlink()
    for way in ("module", "script"):
        done = run(folder, way, "plugins", PYTHONPATH=path)
        assert (done.returncode, "MARK" in done.stdout + done.stderr) == (0, False), done.stderr
        assert "evil" not in done.stdout


def test_a_package_of_our_name_stays_unread_but_by_python_itself(folder):
    (folder / "trainkit").mkdir()
    for name in ("__init__", "__main__"):
        (folder / "trainkit" / f"{name}.py").write_text("import os\nos.write(2, b'MARK trainkit')\n", encoding="utf-8")
    for way in ("script", "safe path"):
        done = run(folder, way, "--version")
        assert (done.returncode, "MARK" in done.stderr) == (0, False), done.stderr
    # Before any of our code is there, `python -m` has found that package: SECURITY.md and the docs say so.
    assert "MARK" in run(folder, "module", "--version").stderr
