"""The program as a process: what it imports, where it looks for modules, signals, pipes."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPORT_MODULES = """
import sys, runpy
sys.argv = ["trainkit", *{words!r}]
try:
    runpy.run_module("trainkit", run_name="__main__", alter_sys=True)
except SystemExit as done:
    assert not done.code, done.code
loaded = [name for name in {unwanted!r} if name in sys.modules]
assert not loaded, loaded
"""


@pytest.fixture
def process(tmp_path, recipe):
    """Run the program in a process of its own, in a folder of the test's."""

    def run(*words: str, folder: Path = tmp_path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trainkit", *words],
            cwd=folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["--help"], ["torch", "pluggy", "pydantic", "rich", "importlib.metadata", "dataclasses", "argparse", "numpy"]),
        (["run", "--help"], ["torch", "pluggy", "pydantic", "rich", "importlib.metadata"]),
        (["list"], ["torch", "pydantic", "rich", "numpy"]),
        (["describe", "model", "resnet"], ["torch", "pydantic", "rich"]),
        (["hooks"], ["torch", "pydantic", "rich"]),
        (["plugins"], ["torch", "pydantic", "rich"]),
        (["validate", "small.toml"], ["torch", "rich", "numpy", "pydantic", "sklearn", "pandas"]),
        (["fill", "small.toml"], ["torch", "rich", "numpy", "pydantic"]),
        (["schema"], ["torch", "rich"]),
        (["preview", "small.toml", "run.compile=step"], ["torch._dynamo", "torch._inductor", "sklearn", "matplotlib"]),
        (["preview", "small.toml", "run.compile=model"], ["torch._dynamo", "torch._inductor", "pandas", "scipy"]),
        (["small.toml", "--smoke"], ["torch._dynamo", "torch._inductor", "sympy", "networkx", "sklearn", "scipy"]),
    ],
    ids=lambda value: value[0] if value and not value[0].startswith("torch") else "",
)
def test_verbs_that_do_not_train_import_nothing_heavy(tmp_path, recipe, words, unwanted):
    code = REPORT_MODULES.format(words=words, unwanted=unwanted)
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_garbage_is_looked_for_while_a_run_trains_without_colour_or_cursor_away_from_a_terminal(process, tmp_path):
    (tmp_path / "looking.py").write_text(
        "import gc\nfrom trainkit import Component, hookimpl\n"
        "class Looking:\n    @hookimpl\n    def trainkit_run_start(self):\n"
        "        print('looks:', gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
        "def looking():\n    '''Say whether garbage is looked for.'''\n    return Looking()\n"
        "@hookimpl\ndef trainkit_components():\n    return [Component('callback', looking)]\n",
        encoding="utf-8",
    )
    with (tmp_path / "small.toml").open("a", encoding="utf-8") as file:
        file.write('[[callback]]\nuse = "looking"\n')
    done = process("small.toml", "-p", "./looking.py", FORCE_COLOR="1")
    assert (done.returncode, "looks: True True" in done.stdout) == (0, True), done.stderr + done.stdout
    assert "\x1b" not in done.stdout + done.stderr


@pytest.fixture
def trap(tmp_path):
    """A folder whose modules must stay unread."""
    for name in ("torch", "numpy", "rich", "pydantic", "tomli", "pluggy", "trainkit_data", "trainkit_evil", "argparse"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was read')\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("words", [["list"], ["validate", "small.toml"], ["small.toml", "--smoke"], ["doctor"]])
def test_modules_in_the_working_directory_stay_unread(process, trap, words):
    done = process(*words)
    assert (done.returncode, "was read" in done.stderr + done.stdout) == (0, False), done.stderr


def test_naming_a_module_reads_that_one_alone(process, trap):
    (trap / "mine.py").write_text(
        "from trainkit import Component, hookimpl\n"
        "def mine():\n    '''Mine.'''\n"
        "@hookimpl\ndef trainkit_components():\n    return [Component('callback', mine)]\n",
        encoding="utf-8",
    )
    done = process("list", "callback", "-p", "mine")
    assert (done.returncode, "mine" in done.stdout) == (0, True), done.stderr
    (trap / "mine.py").write_text("import trainkit_evil\n", encoding="utf-8")
    done = process("list", "-p", "./mine.py")
    assert done.returncode == 3
    assert "No module named 'trainkit_evil'" in done.stderr


def test_the_checkout_itself_is_a_folder_like_any_other(process):
    if not (ROOT / "trainkit" / "__main__.py").exists():
        pytest.skip("the tests are not run from a checkout")
    done = process("list", "optimizer", folder=ROOT)
    assert (done.returncode, "sgd" in done.stdout) == (0, True), done.stderr


def test_a_folder_that_is_gone_does_not_matter(tmp_path):
    code = "import os, sys, tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)\n"
    code += f"os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'trainkit', 'list', 'optimizer'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "sgd" in done.stdout) == (0, True), done.stderr


def test_other_backends_of_torch_are_not_loaded(process):
    code = "import os, trainkit.__main__; print(os.environ['TORCH_DEVICE_BACKEND_AUTOLOAD'])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "0"


def test_a_run_goes_on_when_nobody_listens(tmp_path, recipe):
    command = f"{shlex.quote(sys.executable)} -m trainkit small.toml --run-dir lonely 2>&1 | head -1"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert json.loads((tmp_path / "lonely" / "report.json").read_text(encoding="utf-8"))["status"] == "finished"


def start_long_run(folder: Path) -> subprocess.Popen[str]:
    """Start a run that would take an hour, and wait until it trains."""
    running = subprocess.Popen(
        [sys.executable, "-m", "trainkit", "small.toml", "run.duration=1000000ep", "--run-dir", "long"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    for line in running.stderr:
        if line.startswith("epoch "):
            return running
    raise AssertionError(f"the run ended with {running.wait(timeout=60)}")


@pytest.mark.skipif(os.name != "posix", reason="signals as posix has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_saves_and_ends_with_75(tmp_path, recipe, number):
    running = start_long_run(tmp_path)
    try:
        running.send_signal(number)
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait(timeout=20)
    assert running.returncode == 75
    assert f"interrupted (signal {number.name})" in err
    assert "Traceback" not in err
    report = json.loads((tmp_path / "long" / "report.json").read_text(encoding="utf-8"))
    assert report["status"] == "interrupted"
    assert any((tmp_path / "long" / "checkpoints").iterdir())


@pytest.mark.skipif(os.name != "posix", reason="signals as posix has them")
def test_a_second_signal_ends_at_once(tmp_path, recipe):
    slow = "import time\nfrom trainkit import Component, hookimpl\n"
    slow += "class Slow:\n    @hookimpl\n    def trainkit_step_end(self):\n        print('step', flush=True)\n"
    slow += "        time.sleep(60)\n"
    slow += "def slow():\n    '''Sleep.'''\n    return Slow()\n"
    slow += "@hookimpl\ndef trainkit_components():\n    return [Component('callback', slow)]\n"
    (tmp_path / "slow.py").write_text(slow, encoding="utf-8")
    with (tmp_path / "small.toml").open("a", encoding="utf-8") as file:
        file.write('[[callback]]\nuse = "slow"\n')
    command = [sys.executable, "-m", "trainkit", "small.toml", "-p", "./slow.py"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 130
    finally:
        running.kill()
        running.communicate(timeout=20)
