"""What a user gets: tables, Markdown, JSON, the figure, the page, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.compare.conftest import write_run
from trainkit.cli import main
from trainkit.compare.bands import band_of
from trainkit.compare.comparison import compare_runs
from trainkit.compare.sections import sections_of
from trainkit.compare.table import fitting, shown_tests
from trainkit.page import Bars, Code, Curves, Table, Text


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two recipes, with two seeds each."""
    folder = tmp_path_factory.mktemp("runs")
    for name, lr, losses in (("slow", 0.01, (0.9, 0.8)), ("quick", 0.1, (0.5, 0.45))):
        for seed, loss in enumerate(losses):
            write_run(folder / f"{name}-{seed}", seed, (2.0, 1.5, loss), (0.1, 0.5, 1 - loss), lr=lr)
    return folder


@pytest.fixture(scope="module")
def found(runs, plugins):
    return compare_runs([str(path) for path in sorted(runs.iterdir())], plugins, print)


def cli(capsys, *words):
    code = main(["compare", *map(str, words)])
    return code, *capsys.readouterr()


def test_the_table_shows_what_differs_with_means_and_tests(capsys, runs):
    code, out, _ = cli(capsys, *sorted(runs.iterdir()))
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split()[:5] == ["run", "of", "lr", "val.loss", "best"]
    assert lines[1].split()[:6] == ["quick", "2", "seeds", "0.1", "0.475", "±0.035"]
    assert "means, with their 95 % intervals" in lines
    assert "differences in pairs of the same seed, with their 95 % intervals" in lines


def test_json_has_all_figures_tests_and_answers(capsys, runs):
    code, out, err = cli(capsys, *sorted(runs.iterdir()), "--json", "--require", "val.loss<0.5")
    made = json.loads(out)
    assert (code, made["met"]) == (1, False)
    assert [(answer["row"], answer["met"]) for answer in made["required"]] == [("quick", True), ("slow", False)]
    assert "not met: val.loss<0.5: slow: 0.85, the mean of 2" in err
    quick = made["rows"][0]
    assert quick["settings"] == {"optimizer.lr": 0.1}
    assert quick["figures"]["val.loss"]["mean"] == pytest.approx(0.475)
    assert [run["seed"] for run in quick["runs"]] == [0, 1]
    assert {test["figure"] for test in made["tests"]} == {"val.loss", "val.accuracy"}


def test_markdown_has_no_markup_of_a_strangers(capsys, tmp_path):
    run = write_run(tmp_path / "a|b <img src=x>")
    code, out, _ = cli(capsys, run, "--markdown")
    assert code == 0
    assert r"| a\|b \<img src=x\> | " in out
    assert out.splitlines()[1].startswith("| --- | ---")


def test_wrong_words_are_two(capsys, tmp_path):
    run = write_run(tmp_path / "r")
    for words in ([], [run, "--by", "moon"], [run, "--plot", "x.jpeg"], [run, "--json", "--markdown"]):
        assert cli(capsys, *words)[0] == 2


def test_torch_and_matplotlib_are_not_waited_for(runs):
    code = (
        "import sys; from trainkit.cli import main; done = main(sys.argv[1:]);"
        "print([name for name in ('torch', 'matplotlib', 'jinja2') if name in sys.modules], done)"
    )
    words = [sys.executable, "-c", code, "compare", "--quiet", *map(str, runs.iterdir())]
    made = subprocess.run(words, capture_output=True, text=True, check=True)
    assert made.stdout.splitlines()[-1] == "[] 0"


def test_of_many_rows_the_table_has_pairs_with_the_best_one_alone(tmp_path, plugins, monkeypatch):
    for number in range(8):
        for seed in (0, 1, 2):
            loss = 0.5 + 0.1 * abs(number - 3) + 0.01 * seed * (number % 3)
            write_run(tmp_path / f"r{number}x/s{seed}", seed, (2.0, loss), (0.1, 0.2), lr=0.1 * (number + 1))
    made = compare_runs([str(path) for path in sorted(tmp_path.glob("*/*"))], plugins, print, metrics=["val.loss"])
    assert len(made.tests) == 28
    assert {(test.one.name, test.other.name) for test in shown_tests(made)} == {
        tuple(sorted(("r3x", f"r{number}x"))) for number in range(8) if number != 3
    }
    monkeypatch.setattr("trainkit.compare.sections._MOST_TESTS", 27)
    evidence = next(section for section in sections_of(made) if section.title == "Evidence")
    assert len(blocks([evidence], Table)[0].rows) == 7
    assert blocks([evidence], Text)[-1].text.startswith("21 more pairs, which p after Holm allows for too")
    assert not any("r1x is better" in text.text for text in blocks([evidence], Text))


def test_a_table_that_is_too_wide_comes_in_parts_with_the_names_in_each():
    head, rows = ["run", "loss", "accuracy", "a setting with a long name"], [["r", "1", "2", "3"]]
    assert list(fitting(1, head, rows, 0)) == [(head, rows)]
    assert list(fitting(1, head, rows, 27)) == [
        (["run", "loss", "accuracy"], [["r", "1", "2"]]),
        (["run", "a setting with a long name"], [["r", "3"]]),
    ]


# ---------------------------------------------------------------- curves


def test_a_band_is_the_mean_with_the_lowest_and_highest_run(found):
    band = band_of(found.rows[0], "val.loss")
    assert band.x["step"] == [10, 20, 30]
    assert band.x["epoch"] == [1, 2, 3]
    assert band.x["time"] == pytest.approx([0.505, 1.005, 1.505])
    assert band.y == pytest.approx([2.0, 1.5, 0.475])
    assert (band.low[-1], band.high[-1]) == (0.45, 0.5)
    assert band_of(found.rows[0], "val.nothing") is None


def test_a_band_ends_where_most_runs_have_ended_and_joins_other_places(tmp_path, plugins):
    write_run(tmp_path / "r-0", 0, (4.0, 2.0, 1.0), (0.1, 0.2, 0.3))
    write_run(tmp_path / "r-1", 1, (3.0, 1.0), (0.1, 0.2), epochs_of=15)
    write_run(tmp_path / "r-2", 2, (5.0,), (0.1,))
    (row,) = compare_runs([str(path) for path in sorted(tmp_path.iterdir())], plugins, print).rows
    band = band_of(row, "val.loss")
    # At 15 two of three runs: 3.0 between 4.0 and 2.0, and 3.0; at 10 the run that begins at 15 has no value yet.
    assert band.x["step"] == [10, 15, 20, 30]
    assert band.y == pytest.approx([4.5, 3.0, (2.0 + 3.0 - 2.0 / 3) / 2, 1.0])


def test_places_rise_although_the_runs_that_reach_them_are_others(tmp_path, plugins):
    for seed, (count, slow) in enumerate(((3, 1), (2, 100))):
        folder = write_run(tmp_path / f"r-{seed}", seed, (1.0,) * count, (0.1,) * count)
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        text = "".join(f"{json.dumps({**line, 'time': slow * line['time']})}\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text)
    (row,) = compare_runs([str(path) for path in sorted(tmp_path.iterdir())], plugins, print).rows
    times = band_of(row, "val.loss").x["time"]
    assert times == sorted(times)
    assert len(times) == 3


def test_long_curves_of_several_runs_keep_their_spikes_and_their_ends(tmp_path, plugins):
    spiky = [5.0 if step == 1234 else 1.0 for step in range(3000)]
    for seed in (0, 1):
        write_run(tmp_path / f"r-{seed}", seed, spiky, spiky, epochs_of=1)
    (row,) = compare_runs([str(path) for path in sorted(tmp_path.iterdir())], plugins, print).rows
    band = band_of(row, "val.loss", most=100)
    assert len(band.y) <= 402
    assert max(band.high) == 5.0
    assert band.x["step"][-1] == 3000


def test_the_figure_has_loss_and_accuracy_side_by_side_and_the_rate_below(found):
    pytest.importorskip("matplotlib")
    from trainkit.compare.plot import figure_of

    page = figure_of(found, "time")
    loss, accuracy, rate = page.axes
    assert [axes.get_ylabel() for axes in page.axes] == ["validation loss", "validation accuracy", "learning rate"]
    assert [axes.get_xlabel() for axes in page.axes] == ["seconds"] * 3
    assert [len(axes.lines) for axes in page.axes] == [2, 2, 2]
    assert [len(axes.collections) for axes in page.axes] == [2, 2, 0]  # bands
    (legend,) = page.legends
    assert [text.get_text() for text in legend.get_texts()] == ["quick (2 seeds)", "slow (2 seeds)"]
    assert loss.get_position().y0 > rate.get_position().y1
    assert list(rate.lines[0].get_ydata()) == pytest.approx([0.1, 0.1, 0.05, 0.1 / 3])
    assert accuracy.get_xlim()[0] == 0


def test_pictures_are_written_in_each_form(capsys, runs, tmp_path):
    pytest.importorskip("matplotlib")
    for ending, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        file = tmp_path / f"figure{ending}"
        assert cli(capsys, runs / "quick-0", runs / "slow-0", "--plot", file)[0] == 0
        assert file.read_bytes().startswith(begin)
    assert cli(capsys, runs / "quick-0", "--plot", tmp_path / "nowhere" / "x.png")[0] == 3


def test_without_curves_the_figure_says_so(tmp_path, plugins):
    pytest.importorskip("matplotlib")
    from trainkit.compare.plot import figure_of

    folder = write_run(tmp_path / "r")
    (folder / "metrics.jsonl").unlink()
    (axes,) = figure_of(compare_runs([str(folder)], plugins, print), "epoch").axes
    assert [text.get_text() for text in axes.texts] == ["no curves: nothing was measured on the way"]


# ---------------------------------------------------------------- the page


def blocks(sections, kind):
    return [block for section in sections for block in section.blocks if isinstance(block, kind)]


def test_the_page_has_the_table_the_curves_the_evidence_and_the_recipes(found):
    sections = sections_of(found, by="step")
    assert [section.title for section in sections] == [
        *("Result", "Curves", "Learning rate", "Evidence", "On training samples", "Recipes")
    ]
    table = blocks(sections, Table)[0]
    assert table.columns[:5] == ["run", "of", "lr", "val.loss", "sd of val.loss"]
    assert table.rows[0][:4] == ["quick", "2 seeds", 0.1, 0.475]
    assert table.colours == ["quick", "slow"]
    curves = blocks(sections, Curves)
    assert [figure.title for figure in curves] == [
        *("val.loss", "val.accuracy", "learning rate", "train.loss", "train.accuracy")
    ]
    assert {figure.axis for figure in curves} == {"step"}
    assert [line.name for line in curves[0].lines] == ["quick", "slow"]
    rate = curves[2].lines[0]
    assert rate.x["step"] == [0, 10, 10, 20, 20, 30]
    assert rate.y[:4] == [0.1, 0.1, 0.05, 0.05]
    means = blocks(sections, Bars)[0]
    assert (means.names, means.values) == (["quick", "slow"], pytest.approx([0.475, 0.85]))
    assert len(blocks(sections, Code)) == 2


def test_the_page_leads_to_the_pages_of_its_runs(runs, plugins, tmp_path):
    (runs / "slow-0" / "report.html").write_text("")
    try:
        made = compare_runs([str(runs / "slow-0"), str(runs / "quick-0")], plugins, print)
        assert blocks(sections_of(made, runs / "pages"), Table)[0].links == ["../slow-0/report.html", ""]
    finally:
        (runs / "slow-0" / "report.html").unlink()


def test_what_is_required_stands_first(runs, plugins):
    made = compare_runs([str(runs / "slow-0")], plugins, print, required=["val.loss<0.1"])
    text = blocks(sections_of(made), Text)[0]
    assert (text.tone, text.text) == ("bad", "Required: val.loss<0.1: not met. slow-0: 0.9")


def test_a_page_is_one_file_in_which_names_stay_text(capsys, tmp_path):
    run = write_run(tmp_path / "<script>alert(1)<", more='x = "</script><b>"')
    file = tmp_path / "page.html"
    code, out, _ = cli(capsys, run, "--html", file, "--json")
    assert (code, json.loads(out)["written"]) == (0, [str(file)])
    text = file.read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "</script><b>" not in text
    assert "http://" not in text.replace("http://www.w3.org/", "")
    assert cli(capsys, run, "--html", tmp_path)[0] == 3
