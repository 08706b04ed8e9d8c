"""What each callback and logger costs: microseconds an update, as ``run --profile`` counts them.

    python benchmarks/callbacks.py [--quick]

Each installed one is put into a recipe of its own (MLP on digits, epochs of 20 updates, an evaluation each), with the
settings of its example, and the median of several runs is taken. What it takes at the end of the run is listed apart.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
from pathlib import Path
from typing import Any

from trainkit import RecipeError, hookimpl
from trainkit.launch import launch
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe
from trainkit.recipe.write import to_toml


class Caught:
    """Keeps the run."""

    stateless = True

    @hookimpl
    def trainkit_run_start(self, run: Any) -> None:
        """Keep it."""
        self.run = run


def cost(plugins: Plugins, kind: str, name: str, example: dict[str, Any], epochs: int) -> tuple[float, float, int]:
    """Seconds an update and at the end, and calls, of one component in one run."""
    run = {"duration": f"{epochs}ep", "threads": 1, "save_every": f"{epochs}ep"}
    text = to_toml({"extends": "trainkit:mlp_digits", "run": run, kind: [{"use": name, **example}]})
    changes = [] if kind == "logger" else ["logger=[]"]
    caught = Caught()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        (Path(folder) / "recipe.toml").write_text(text)
        recipe = load_recipe(Path(folder) / "recipe.toml", changes, plugins)
        launch(recipe, plugins, folder=Path(folder) / "run", listeners=[caught], profile=True)
    own = {label: spent for label, spent in caught.run.profile.items() if label.startswith(f"{kind}.0 ")}
    after = sum(spent.seconds for label, spent in own.items() if label.endswith(": run_end"))
    during = sum(spent.seconds for spent in own.values()) - after
    return during / caught.run.position, after, sum(spent.calls for spent in own.values())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short run of each, to see that it works")
    options = parser.parse_args()
    rounds, epochs = (1, 2) if options.quick else (7, 30)
    plugins = Plugins()
    print("| object | calls in 100 updates | µs an update: median [min to max] | s at the end |\n|---|---|---|---|")
    for kind in ("callback", "logger"):
        for (component,) in plugins.components(kind).values():
            if component.missing_libraries:
                print(f"| {kind} `{component.name}` | not here: {', '.join(component.missing_libraries)} | | |")
                continue
            try:
                cost(plugins, kind, component.name, dict(component.example), 2)  # warm up
            except RecipeError as error:  # such as one that needs the folder of an ensemble
                said = error.problems[0].message.splitlines()[0]
                print(f"| {kind} `{component.name}` | not in this recipe: {said} | | |")
                continue
            found = [cost(plugins, kind, component.name, dict(component.example), epochs) for _ in range(rounds)]
            each, after = sorted(one[0] * 1e6 for one in found), statistics.median(one[1] for one in found)
            spread = f"{statistics.median(each):.1f} [{each[0]:.1f} to {each[-1]:.1f}]"
            calls = 100 * found[0][2] / (epochs * 20)
            print(f"| {kind} `{component.name}` | {calls:.0f} | {spread} | {after:.2f} |", flush=True)


if __name__ == "__main__":
    main()
