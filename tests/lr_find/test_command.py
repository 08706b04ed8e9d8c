"""``trainkit lr-find`` as a user types it: what it prints, writes and refuses, and its exit codes."""

from __future__ import annotations

import io
import json
import shutil

import pytest

from trainkit.cli import main
from trainkit.page import Code, Curves, Facts


def lr_find(*words):
    return main(["lr-find", *map(str, words)])


@pytest.fixture
def plain(file):
    """The recipe without what tests alone have."""
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: text.index("[[callback]]")], encoding="utf-8")
    return file


FEW = ("--updates", 60, "--from", 1e-4, "--to", 10, "-q")


def test_json_holds_all_that_was_seen(plain, capsys):
    assert lr_find(plain, "--json", *FEW) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["setting"], found["now"], found["from"], found["to"]) == ("optimizer.lr", 0.1, 1e-4, 10.0)
    assert (found["scale"], found["updates"], found["held"], found["applied"]) == ("exponential", 60, None, None)
    assert len(found["values"]) == len(found["losses"]) == len(found["smoothed"])
    assert found["traceless"] is True
    assert all(pair["before"] == pair["after"] for pair in found["sha256"].values())
    assert 1e-4 < found["suggestions"]["steepest"] < 10


def test_words_say_the_same(plain, capsys):
    assert lr_find(plain, *FEW) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("optimizer.lr, 0.0001 to 10 in 60 updates by equal factors")
    assert [line.split()[0] for line in lines[4:6]] == ["steepest", "valley"]
    assert "recipe       0.1          as it is" in lines
    assert "The schedule 'cosine' was switched off: the value is what it multiplies, its base value." in lines
    assert lines[-1].startswith("No trace: the SHA-256 of model, optimizer, scaler, random,")


def test_nothing_is_left_but_the_files_that_were_asked_for(plain, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.chdir(tmp_path)
    before = plain.read_bytes()
    name = "--setting=optimizer.weight_decay"
    assert lr_find(plain, name, "--plot", "wd.svg", "--html", "wd.html", "--updates", 12) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.toml", "scratch", "wd.html", "wd.svg"]
    assert list(scratch.iterdir()) == []
    assert plain.read_bytes() == before
    said = capsys.readouterr()
    assert "picture written to wd.svg" in said.err
    assert "page written to wd.html" in said.err
    page = (tmp_path / "wd.html").read_text(encoding="utf-8")
    assert "optimizer.weight_decay of mine" in page
    assert "<svg" in (tmp_path / "wd.svg").read_text(encoding="utf-8")


def test_the_page_has_the_curves_on_a_logarithmic_axis_the_hashes_and_the_recipe(find):
    from trainkit.lr_find.sections import sections

    found = find(low=1e-4, high=10.0)
    test, values, hashes, recipe = sections(found, "recipe = 1\n")
    (curves,) = (block for block in test.blocks if isinstance(block, Curves))
    assert curves.log_x
    assert {mark[2].split()[0] for mark in curves.marks} == {"recipe", *(k for k, v in found.suggestions.items() if v)}
    smoothed = curves.lines[0]
    assert list(smoothed.x) == ["optimizer.lr"]
    assert list(smoothed.y) == found.curve.smoothed[: len(smoothed.y)]
    assert isinstance(test.blocks[0], Facts)
    assert len(values.blocks[0].rows) == len(smoothed.y)
    assert [row[0] for row in hashes.blocks[1].rows] == list(found.traces.before)
    assert recipe.blocks == [Code("recipe = 1\n", f"{found.recipe}, as it was tested")]


def test_the_page_of_a_long_test_shows_some_of_its_values(find, monkeypatch):
    from trainkit.lr_find import sections as page

    found = find(low=1e-4, high=1e-1)
    monkeypatch.setattr(page, "MOST_ROWS", 20)
    table = page.sections(found, "")[1].blocks[0]
    assert [row[0] for row in table.rows] == list(range(1, 41, 2))
    assert table.title == "one of 2 updates; --json has all"


@pytest.mark.parametrize("name", ["optimizer.lr", "optimizer.momentum"])
def test_losses_that_are_no_numbers_from_the_start_are_drawn_as_nothing(find, tmp_path, name):
    pytest.importorskip("matplotlib")
    from trainkit.lr_find.picture import draw
    from trainkit.lr_find.sections import sections
    from trainkit.page import render

    found = find("model={use='broken'}", name=name)
    assert set(found.suggestions.values()) == {None}
    assert found.end().endswith("the loss is not finite")
    draw(found, tmp_path / "nothing.svg")
    assert "not finite" in render("nothing", sections(found, ""))


# ------------------------------------------------------------ --apply


def test_the_value_is_written_and_comments_stay(plain, capsys):
    before = plain.read_text(encoding="utf-8")
    plain.chmod(0o640)
    assert lr_find(plain, "--apply", "--json", *FEW) == 0
    found = json.loads(capsys.readouterr().out)
    value = found["suggestions"]["steepest"]
    assert plain.read_text(encoding="utf-8") == before.replace("lr = 0.1  # found", f"lr = {value}  # found")
    assert plain.stat().st_mode & 0o777 == 0o640
    assert found["applied"]["values"] == {"optimizer.lr": value}
    assert f"+lr = {value}  # found on paper" in found["applied"]["diff"].splitlines()


def test_another_rule_and_another_file(plain, tmp_path, capsys):
    before = plain.read_bytes()
    out = tmp_path / "below" / "new.toml"
    assert lr_find(plain, "--apply", "--rule", "valley", "--out", out, *FEW) == 0
    said = capsys.readouterr().out
    (value,) = (line.split()[1] for line in said.splitlines() if line.startswith("valley"))
    assert f"+lr = {value}  # found on paper" in said.splitlines()
    assert f"lr = {value}  # found on paper" in out.read_text(encoding="utf-8")
    assert plain.read_bytes() == before
    assert lr_find(plain, "--apply", "--out", out, *FEW) == 2
    assert "there is a file already" in capsys.readouterr().err


def test_a_recipe_that_extends_gets_a_table_and_its_copy_finds_its_base(plain, tmp_path):
    child = tmp_path / "child.toml"
    child.write_text('recipe = 1\nextends = "mine.toml"\n', encoding="utf-8")
    shutil.copy(child, tmp_path / "kept.toml")
    out = tmp_path / "below" / "copy.toml"
    assert lr_find(child, "--apply", *FEW) == 0
    assert lr_find(tmp_path / "kept.toml", "--apply", "--out", out, *FEW) == 0
    assert child.read_text(encoding="utf-8").startswith('recipe = 1\nextends = "mine.toml"\n')
    rates = [line for line in child.read_text(encoding="utf-8").splitlines() if line.startswith("lr = ")]
    assert len(rates) == 1
    assert 'extends = "../mine.toml"' in out.read_text(encoding="utf-8")
    assert rates[0] in out.read_text(encoding="utf-8")
    assert main(["validate", str(out), str(child), "-q"]) == 0


def test_rates_of_groups_and_of_the_rest_are_written_in_their_ratio(plain):
    text = plain.read_text(encoding="utf-8")
    groups = '[[optimizer.group]]\nmatch = "head.*"\nlr = 0.02  # slower\n[optimizer.rest]\nuse = "adamw"\nlr = 1e-3\n'
    text = text.replace('use = "sgd"', 'use = "muon"').replace("[schedule]", groups + "[schedule]")
    plain.write_text(text, encoding="utf-8")
    test = ("--updates", 60, "--from", 1e-3, "--to", 100, "-q")
    assert lr_find(plain, "--apply", *test) == 0
    lines = plain.read_text(encoding="utf-8").splitlines()
    rates = [float(line.split()[2]) for line in lines if line.startswith("lr = ")]
    assert rates == pytest.approx([rates[0], 0.2 * rates[0], 0.01 * rates[0]], rel=5e-3)
    assert any(line.endswith("# slower") for line in lines)


def test_line_ends_of_windows_stay(plain):
    plain.write_bytes(plain.read_bytes().replace(b"\n", b"\r\n"))
    assert lr_find(plain, "--apply", *FEW) == 0
    data = plain.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n") > 10


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--out", "x.toml"], 2, "add --apply"),
        (["--rule", "valley"], 2, "add --apply"),
        (["--apply", "--rule", "best"], 2, "there are steepest, valley, harmless, lowest"),
        (["--apply", "--rule", "lowest"], 2, "there are steepest and valley"),
        (["--apply", "--out", "x.txt"], 2, "ends in .toml"),
        (["--apply", "--from", "1e-14", "--to", "1e-13"], 4, "no value 'steepest' to suggest, and nothing was written"),
        (["--plot", "x.jpg"], 2, ".png, .svg, .pdf"),
        (["--html", "x.txt"], 2, "ends in .html"),
        (["--html", "nowhere/x.html"], 3, "there is no folder nowhere"),
        (["--from", "low"], 2, "invalid float value"),
        (["model.widths=[0]"], 2, "widths"),
    ],
)
def test_what_cannot_be_is_one_message_and_nothing_is_written(plain, tmp_path, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(tmp_path)
    before = plain.read_bytes()
    assert lr_find(plain, *words, "-q") == code
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert plain.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_a_group_that_a_base_has_is_not_written_over(plain, tmp_path, capsys):
    text = plain.read_text(encoding="utf-8")
    group = '[[optimizer.group]]\nmatch = "head.*"\nlr = 0.02\n'
    plain.write_text(text.replace("[schedule]", group + "[schedule]"), encoding="utf-8")
    child = tmp_path / "child.toml"
    child.write_text('recipe = 1\nextends = "mine.toml"\n', encoding="utf-8")
    assert lr_find(child, "--apply", *FEW) == 2
    assert "optimizer.group.0.lr stands in what" in capsys.readouterr().err


def test_standard_input_is_tested_and_has_no_file_to_write_to(plain, monkeypatch, capsys):
    for words, code in ((["--setting", "weight_decay"], 0), (["--apply"], 2)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(plain.read_bytes())))
        assert lr_find("-", *words, "--updates", 10, "-q") == code
    assert "comes from standard input; name a recipe file" in capsys.readouterr().err


def test_what_the_file_has_become_meanwhile_is_kept(plain, plugins):
    from trainkit.lr_find.applying import Target
    from trainkit.lr_find.finding import CHANGES, RangeTest
    from trainkit.recipe import load_recipe

    test = RangeTest(load_recipe(plain, [*CHANGES, "seed=6"], plugins))
    target = Target(test.recipe, test.setting, test.keys, None)
    plain.write_text("# new\n" + plain.read_text(encoding="utf-8"), encoding="utf-8")
    applied = target.write(0.123456)
    assert plain.read_text(encoding="utf-8").startswith("# new\nrecipe = 1\nseed = 5\n")
    assert applied.values == {"optimizer.lr": 0.123}


def test_a_packaged_recipe_is_written_to_a_file_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ("trainkit:wine_mlp", "--apply", "--updates", 60, "-q")
    assert lr_find(*words) == 2
    assert "lies in no recipe file of yours; name a new one with --out FILE" in capsys.readouterr().err
    assert lr_find(*words, "--out", "wine.toml") == 0
    assert main(["validate", "wine.toml", "-q"]) == 0


def test_a_search_is_tested_as_one_run_of_it_and_its_space_is_named(plain, capsys):
    with plain.open("a", encoding="utf-8") as file:
        file.write('[search]\nuse = "random"\ntrials = 3\n[search.space]\n"optimizer.lr" = { low = 0.1, high = 0.9 }\n')
    assert lr_find(plain, "--apply", *FEW[:-1]) == 0
    assert "[search.space]" in plain.read_text(encoding="utf-8")
    said = capsys.readouterr()
    assert "+lr = " in said.out
    assert "trials have their own values of optimizer.lr" in said.err


def test_a_trace_is_exit_code_1_and_nothing_is_applied(plain, tmp_path, capsys):
    module = tmp_path / "careless.py"
    module.write_text(CARELESS, encoding="utf-8")
    before = plain.read_bytes()
    words = [plain, "callback=[{use='careless'}]", "-p", module, *FEW]
    assert lr_find(*words) == 1
    assert "TRACES LEFT in callbacks" in capsys.readouterr().out
    assert lr_find(*words, "--apply") == 4
    assert "left traces in callbacks, and nothing was written" in capsys.readouterr().err
    assert plain.read_bytes() == before


@pytest.mark.parametrize("words", [("--apply",), ("--json",)])
def test_what_was_found_is_told_where_the_page_cannot_be_written(plain, tmp_path, monkeypatch, capsys, words):
    def full(*_):
        raise OSError(28, "No space left on device", "page.html")

    monkeypatch.setattr("trainkit.lr_find.command.write_file", full)
    before = plain.read_bytes()
    assert lr_find(plain, *words, "--html", tmp_path / "page.html", *FEW) == 3
    out, said = capsys.readouterr()
    assert "steepest" in out
    assert "No space left" in said
    assert (plain.read_bytes() != before) == ("--apply" in words)


CARELESS = '''\
"""A callback that remembers."""
from trainkit import Component, hookimpl
CALLS = []
class Careless:
    stateless = True
    def __init__(self):
        self.already = len(CALLS)
    @hookimpl
    def trainkit_step_end(self):
        CALLS.append(1)
def careless() -> Careless:
    """Remember in a global list."""
    return Careless()
@hookimpl
def trainkit_components():
    return [Component("callback", careless, example={})]
'''
