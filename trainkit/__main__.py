"""``python -m trainkit`` and the console script ``trainkit``."""

from __future__ import annotations

import os
import sys


def _leave_working_directory() -> None:
    """Take the entry that ``-m`` put first off ``sys.path``: what runs must not depend on the folder one stands in.

    The same folder may be on the path a second time because an editable install put it there; that one stays. An empty
    part of PYTHONPATH, as ``PYTHONPATH=$PYTHONPATH:/more`` often leaves one, means the working directory too, and goes,
    unless trainkit itself lies there.
    """
    if sys.flags.safe_path or not sys.path:
        return
    try:
        here = {"", os.getcwd(), os.path.realpath(os.curdir)}
    except OSError:  # the folder was removed
        here = {""}
    if sys.path[0] in here:
        del sys.path[0]
    while "" in sys.path:
        sys.path.remove("")
    given = os.environ.get("PYTHONPATH", "")
    if given and {"", os.curdir} & set(given.split(os.pathsep)):
        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        if os.path.realpath(home) not in here:
            sys.path[:] = [entry for entry in sys.path if entry not in here]


_leave_working_directory()

# Importing torch would otherwise import every installed package that calls itself a backend of it.
os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")
# On a crowded machine the worker threads of one operation spin while the last one waits for a core, which can cost
# ten times the work. A short spin is as fast on a quiet machine.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from trainkit.cli import main  # noqa: E402 - nothing may be imported before the path is right

if __name__ == "__main__":
    sys.exit(main())
