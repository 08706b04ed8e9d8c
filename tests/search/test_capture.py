"""What a process without a console prints goes to a run's log, and nowhere else for longer than the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# A stream that finds no room when the run has ended.
PROGRAM = """
import os, sys
from pathlib import Path
from trainkit import printing_to

class Full:
    full = False
    def write(self, text): return os.write(1, text.encode())
    def flush(self):
        if self.full: raise OSError(28, "No space left on device")

sys.stdout = Full()
before = len(os.listdir("/proc/self/fd"))
with printing_to(Path(sys.argv[1])):
    print("in the run")
    sys.stdout.full = True
sys.stdout = sys.__stdout__
os.write(1, b"after the run" + b", files left open" * (len(os.listdir("/proc/self/fd")) - before))
"""


def test_a_full_disk_leaves_no_stream_with_the_log_of_a_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run")], capture_output=True, text=True, env=dict(os.environ)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "after the run", "")
    assert (tmp_path / "run/log.txt").read_text() == "in the run\n"
