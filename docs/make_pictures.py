"""Draws docs/pictures: what `trainkit preview --plot` shows of each recipe of a schedule, and pictures of other verbs.

python docs/make_pictures.py            draw all of them
python docs/make_pictures.py --check    say which recipes have other values than their pictures, exit code 1

A recipe whose schedule reacts to a figure is trained first, so that its picture shows what was decided. The values at
some times of each recipe, without what was decided, are kept in pictures/values.json, which --check compares.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainkit.cli import main
from trainkit.launch import launch
from trainkit.lr_find.finding import CHANGES, RangeTest
from trainkit.lr_find.picture import draw as draw_found
from trainkit.manager import Plugins
from trainkit.preview import preview
from trainkit.preview_plot import draw_preview
from trainkit.protocols import silent
from trainkit.recipe import load_recipe

if TYPE_CHECKING:
    from trainkit.page import Section

PICTURES = Path(__file__).parent / "pictures"
RECIPES = Path(__file__).resolve().parent.parent / "recipes"
NAMES = (
    "staircase",
    "temperature",
    "wsd",
    "onecycle",
    "cyclic",
    "warm_restarts",
    "fine_tune",
    "plateau",
    "stagnation_restart",
    "growing_batch",
)
# Pictures of other verbs, by the page that shows them.
OTHERS = {
    "lr_find": "finding-rates.md",
    "lr_policies": "comparing.md",
    "report": "reports.md",
    "report_search": "reports.md",
    "growth": "growth.md",
}
TIMES = "0,0.1dur,0.25dur,0.5dur,0.75dur,0.9dur"


def values(plugins: Plugins) -> dict[str, dict[str, list[float]]]:
    """The scheduled values of each recipe at some times, to nine digits: enough to know a curve by."""
    shown = {}
    for name in NAMES:
        seen = preview(load_recipe(RECIPES / f"{name}.toml", [], plugins), plugins, TIMES)
        rounded = {label: [float(f"{value:.9g}") for value in row] for label, row in seen.values.items()}
        shown[name] = {"t": [float(t) for t in seen.times], **rounded}
    return shown


def draw(name: str, plugins: Plugins) -> None:
    """Draw one recipe."""
    recipe = load_recipe(RECIPES / f"{name}.toml", ["logger=[]"], plugins)
    with tempfile.TemporaryDirectory() as folder:
        figures = None
        if recipe.tables["schedule"]["react"]:
            launch(recipe, plugins, folder=Path(folder) / "run")
            figures = Path(folder) / "run" / "metrics.jsonl"
        run = preview(recipe, plugins, metrics=figures).run
    draw_preview(run, PICTURES / f"{name}.png", f"{name}: {run.total_updates} updates")


def draw_range_test(plugins: Plugins) -> None:
    """Draw what `trainkit lr-find --plot` shows."""
    file = RECIPES / "resnet_cosine.toml"
    draw_found(RangeTest(load_recipe(file, CHANGES, plugins)).find(silent), PICTURES / "lr_find.png")


def draw_policies() -> None:
    """Draw what `trainkit compare --plot` shows of three recipes with five seeds each, and print its tables."""
    names = ("lr_fixed", "lr_decay", "lr_adam")
    with tempfile.TemporaryDirectory() as folder:
        runs = [str(Path(folder) / name) for name in names]
        for name, run in zip(names, runs, strict=True):
            assert main(["run", str(RECIPES / f"{name}.toml"), "--seeds", "5", "--run-dir", run, "--quiet"]) == 0
        picture = PICTURES / "lr_policies.png"
        assert main(["compare", *runs, "--plot", str(picture)]) == 0
    few_colours(picture)


def few_colours(picture: Path) -> None:
    """Leave a picture as many shades as anybody sees, at half the bytes."""
    from PIL import Image

    with Image.open(picture) as full:
        full.convert("RGB").quantize(96).save(picture, optimize=True)


def draw_report(plugins: Plugins) -> None:
    """Draw a part of a run's page."""
    from trainkit.page import Curves, Heatmap, Section
    from trainkit.report.open import look_into
    from trainkit.report.run_page import RunPage, run_sections

    changes = 'callback=[{use="norms"}, {use="update_ratio", every="5ba"}]', "run.log_every=10ba", "logger=[]"
    shown = {"Curves": 2, "Gradients and weights": 3, "Predictions on test": 2}  # figures of each
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        launch(load_recipe(RECIPES / "resnet_cosine.toml", changes, plugins), plugins, folder=folder)
        page = RunPage(folder, {"accuracy": True})
        page.update()
        result, summary = page.read()
        look, _ = look_into(folder, "test", plugins, silent)
        sections = {section.title: section.blocks for section in run_sections(result, page.seen, summary, look)}
        parts = [
            Section(title, [block for block in sections[title] if isinstance(block, Curves | Heatmap)][:count])
            for title, count in shown.items()
        ]
        parts[1] = Section(parts[1].title, parts[1].blocks[::2])  # gradients, and the size of updates
    photograph("resnet_cosine", parts, 1790, "report")


def draw_search_report() -> None:
    """Draw a part of a search's page."""
    from trainkit.page import Bars, Heatmap, Scatter, Section
    from trainkit.report.study import study_sections
    from trainkit.search.table import opened
    from trainkit.search.timeline import course_of

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "study"
        recipe = str(RECIPES / "search" / "tpe.toml")
        assert main(["run", recipe, "--run-dir", str(folder), "--without", "reports", "--quiet"]) == 0
        study = opened(folder, print)[0].study
        blocks = [block for section in study_sections(study, course_of(folder), folder) for block in section.blocks]
    figures = [block for block in blocks if isinstance(block, Scatter | Bars | Heatmap)]
    history, importance, best, *_, surface = figures
    parts = [
        Section("History, and importance of each setting", [history, importance]),
        Section("Each setting, and two together", [best, surface]),
    ]
    photograph("search/tpe", parts, 1320, "report_search")


def draw_growth() -> None:
    """Draw what benchmarks/growth.py and benchmarks/growth_sizes.py have measured, kept in pictures/growth.json."""
    import matplotlib
    from matplotlib.figure import Figure

    kept = json.loads((PICTURES / "growth.json").read_text(encoding="utf-8"))
    matplotlib.rcdefaults()
    page = Figure(figsize=(9, 6), layout="constrained")
    (updates, parameters), (trials, processes) = page.subplots(2, 2)

    took, _, _ = zip(*kept["updates"], strict=True)
    updates.plot([number / 10 for number in range(1, 11)], took, "o-")
    updates.set(title="an update, over a run", xlabel="million updates", ylabel="µs", ylim=(0, 1.2 * max(took)))

    count, _, memory, _, saved = zip(*kept["parameters"], strict=True)
    parameters.loglog(count, memory, "o-", label="memory at the peak")
    parameters.loglog(count, saved, "s-", label="a checkpoint")
    parameters.loglog(count, [16e-6 * size for size in count], "k:", label="16 bytes each")
    parameters.set(title="memory and disk, AdamW", xlabel="parameters", ylabel="MB", ylim=(0.05, None))

    for name, mark in (("idle trials", "o-"), ("real trials", "s-")):
        count, seconds, *_ = zip(*kept[name], strict=True)
        trials.loglog(count, seconds, mark, label={"idle trials": "that do nothing"}.get(name, "three epochs, digits"))
    trials.set(title="a study", xlabel="trials", ylabel="CPU seconds", ylim=(1, 100))

    count, times = zip(*kept["expected"], strict=True)
    several = kept["processes"]
    processes.loglog(count, count, "k:", label="in proportion")
    processes.loglog(count, [times[0] / time for time in times], "s-", label="expected")
    measured = [row[0] for row in several], [several[0][3] / row[3] for row in several]
    processes.loglog(*measured, "o", label="measured, CPU time")
    processes.set(title="speed, ResNet-20, batch 128", xlabel="processes", ylabel="x one process")
    processes.set_xticks(count, [f"{number:.0f}" for number in count])
    processes.set_yticks(count, [f"{number:.0f}" for number in count])
    processes.minorticks_off()
    for panel in (parameters, trials, processes):
        panel.legend(frameon=False, fontsize="small")
    page.savefig(PICTURES / "growth.png", dpi=80)
    few_colours(PICTURES / "growth.png")


def photograph(title: str, parts: Sequence[Section], height: int, name: str) -> None:
    """Draw parts of a page as Chromium shows them; where there is none, the picture stays as it is."""
    import shutil
    import subprocess

    from PIL import Image

    from trainkit.page import render

    browser = shutil.which("chromium")
    if browser is None:
        return
    with tempfile.TemporaryDirectory() as place:
        file, shot = Path(place) / "page.html", Path(place) / "shot.png"
        file.write_text(render(title, parts, "parts of its page"), encoding="utf-8")
        flags = "--headless --no-sandbox --disable-gpu --hide-scrollbars --virtual-time-budget=5000"
        words = [browser, *flags.split(), f"--window-size=1200,{height}", f"--screenshot={shot}", file.as_uri()]
        subprocess.run(words, check=True, capture_output=True)
        with Image.open(shot) as full:
            small = full.convert("RGB").resize((full.width * 5 // 8, full.height * 5 // 8), Image.Resampling.LANCZOS)
            small.quantize(64, kmeans=2, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    installed = Plugins()
    kept = PICTURES / "values.json"
    fresh = values(installed)
    if "--check" in sys.argv:
        drawn = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        stale = [name for name in NAMES if drawn.get(name) != fresh[name]]
        print("\n".join(f"{name}.png is stale" for name in stale))
        sys.exit(bool(stale))
    PICTURES.mkdir(exist_ok=True)
    for one in NAMES:
        draw(one, installed)
    draw_range_test(installed)
    draw_policies()
    draw_report(installed)
    draw_search_report()
    draw_growth()
    kept.write_text(json.dumps(fresh, indent=1) + "\n", encoding="utf-8")
