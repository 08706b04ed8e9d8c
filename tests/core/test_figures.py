"""What a run writes: metrics.jsonl against a recomputation by hand, report.json, environment, best, retention."""

from __future__ import annotations

import hashlib
import json
import tomllib

import pytest
import torch
from torch.nn import functional

from trainkit import hookimpl
from trainkit.manager import Plugins
from trainkit.recipe import load_recipe


class Watch:
    """Keeps what each update and evaluation saw, on the side."""

    def __init__(self) -> None:
        self.updates: list[tuple[torch.Tensor, torch.Tensor, float]] = []
        self.evaluations: dict[tuple[str, int], tuple[float, float]] = {}

    @hookimpl
    def trainkit_step_end(self, run, result) -> None:
        (outputs,), (targets,) = result.outputs, result.targets
        self.updates.append((outputs.clone(), targets.clone(), run.optimizer.param_groups[0]["lr"]))

    @hookimpl(tryfirst=True)
    def trainkit_evaluate(self, run, split) -> None:
        with torch.no_grad():
            data = run.feed.plan.dataset.splits[split]
            outputs = run.model(data.inputs)
            loss = functional.cross_entropy(outputs, data.targets).item()
            self.evaluations[split, run.step] = loss, (outputs.argmax(1) == data.targets).double().mean().item()

    def train(self, first: int, end: int) -> tuple[float, float, float]:
        """Loss, accuracy and the last rate over updates ``first`` to ``end - 1``."""
        outputs = torch.cat([update[0] for update in self.updates[first:end]])
        targets = torch.cat([update[1] for update in self.updates[first:end]])
        loss = functional.cross_entropy(outputs, targets).item()
        return loss, (outputs.argmax(1) == targets).double().mean().item(), self.updates[end - 1][2]


SCHEDULE = '[schedule]\nuse = "cosine"\nwarmup = "3ba"\n'


@pytest.mark.parametrize(
    ("log", "evaluate", "updates"),
    [
        ("1ep", "1ep", 24),
        ("3ba", "5ba", 24),
        ("5ba", "3ba", 21),
        ("1ep", "3ba", 24),
        ("7ba", "1ep", 20),
        ("1ba", "1ba", 5),
    ],
)
def test_every_line_equals_a_recomputation_by_hand(train, log, evaluate, updates):
    watch = Watch()
    changes = f'run.log_every="{log}"', f'run.evaluate_every="{evaluate}"', f'run.duration="{updates}ba"'
    finished = train(*changes, more=SCHEDULE, listeners=[watch])
    assert len(watch.updates) == updates

    every = {"1ep": 8, "3ba": 3, "5ba": 5, "7ba": 7, "1ba": 1}
    marks = [*range(every[log], updates, every[log]), updates]
    lines = finished.of("train")
    assert [line["step"] for line in lines] == marks
    for first, end, line in zip([0, *marks], marks, lines, strict=False):
        loss, accuracy, lr = watch.train(first, end)
        assert line["loss"] == pytest.approx(loss, rel=1e-5), f"updates {first} to {end}"
        assert line["accuracy"] == pytest.approx(accuracy, rel=1e-12), f"updates {first} to {end}"
        assert line["lr/0"] == lr
        assert line["epoch"] == pytest.approx(end / 8, abs=1e-6)

    marks = [*range(every[evaluate], updates, every[evaluate]), updates]
    lines = finished.of("val")
    assert [line["step"] for line in lines] == marks
    for line in lines:
        loss, accuracy = watch.evaluations["val", line["step"]]
        assert line["loss"] == pytest.approx(loss, rel=1e-5)
        assert line["accuracy"] == pytest.approx(accuracy, rel=1e-12)
        assert "lr/0" not in line


def test_lines_are_in_order_of_time_and_hold_what_the_design_says(train):
    lines = train().lines
    assert [(line["step"], line["split"]) for line in lines] == [
        (8, "train"),
        (8, "val"),
        (16, "train"),
        (16, "val"),
        (16, "test"),
    ]
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    for line in lines:
        assert list(line)[:4] == ["step", "epoch", "split", "time"]


def test_the_uneven_last_batch_counts_by_its_samples(train):
    watch = Watch()
    finished = train("run.duration=1ep", listeners=[watch])
    sizes = [len(targets) for _, targets, _ in watch.updates]
    assert sizes == [16] * 7 + [4]
    losses = [functional.cross_entropy(outputs, targets).item() for outputs, targets, _ in watch.updates]
    expected = sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / 116
    assert finished.of("train")[0]["loss"] == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(sum(losses) / 8, rel=1e-6)


def test_class_weights_divide_the_training_loss_as_they_divide_the_batch(train):
    watch = Watch()
    finished = train("run.duration=1ep", "loss.class_weights=[1.0, 5.0, 0.2]", listeners=[watch])
    outputs = torch.cat([outputs for outputs, _, _ in watch.updates])
    targets = torch.cat([targets for _, targets, _ in watch.updates])
    expected = functional.cross_entropy(outputs, targets, torch.tensor([1.0, 5.0, 0.2])).item()
    assert finished.of("train")[0]["loss"] == pytest.approx(expected, rel=1e-6)


def test_report_json_is_the_contract(train):
    finished = train()
    report = json.loads((finished.folder / "report.json").read_text(encoding="utf-8"))
    assert list(report) == ["status", "reason", "steps", "epochs", "seconds", "metrics", "best", "weights_sha256"]
    assert (report["status"], report["reason"]) == ("finished", "all planned updates made")
    assert (report["steps"], report["epochs"]) == (16, 2.0)
    assert report["seconds"] >= 0
    newest = {f"{line['split']}.{name}": line[name] for line in finished.lines for name in ("loss", "accuracy")}
    assert report["metrics"] == newest
    best = min(finished.of("val"), key=lambda line: line["loss"])
    assert report["best"] == {"step": best["step"], "metric": "val.loss", "value": best["loss"]}
    assert report == finished.report.as_dict()


def test_the_weights_hash_is_over_names_shapes_types_and_bytes_in_name_order(train):
    finished = train("model.norm=batch")
    digest = hashlib.sha256()
    for name in sorted(finished.weights):
        tensor = finished.weights[name]
        digest.update(f"{name} {list(tensor.shape)} {str(tensor.dtype)[6:]}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    assert any("running_mean" in name for name in finished.weights), "buffers count"
    assert finished.report.weights_sha256 == digest.hexdigest()


def test_a_run_that_is_stopped_says_why(train):
    class Enough:
        @hookimpl
        def trainkit_stop_reason(self, run, metrics):
            return "enough" if run.step >= 8 else None

    finished = train("run.duration=9ep", listeners=[Enough()])
    assert (finished.report.status, finished.report.reason) == ("stopped", "enough")
    assert finished.report.steps == 8
    assert finished.checkpoints == [8]
    assert "test.accuracy" in finished.report.metrics, "a run stopped by its recipe is tested too"


def test_environment_json_says_what_results_can_depend_on(train):
    environment = json.loads(
        (train(command="trainkit small.toml").folder / "environment.json").read_text(encoding="utf-8")
    )
    assert environment["torch"] == torch.__version__
    assert (environment["seed"], environment["threads"], environment["device"]) == (5, 1, "cpu")
    assert environment["command"] == "trainkit small.toml"
    assert "trainkit" in environment["plugins"]


def test_best_json_names_the_best_checkpoint_which_is_kept(train):
    finished = train("run.duration=12ep", "optimizer.lr=2.0", "run.monitor=val.accuracy", "run.evaluate_every=2ba")
    evaluations = finished.of("val")
    best = max(evaluations, key=lambda line: (line["accuracy"], -line["step"]))
    said = json.loads((finished.folder / "best.json").read_text(encoding="utf-8"))
    assert (said["step"], said["metric"], said["value"]) == (best["step"], "val.accuracy", best["accuracy"])
    assert best["step"] < finished.report.steps - 16, "or this test shows nothing"
    assert (finished.folder / "checkpoints" / said["checkpoint"]).is_dir()
    assert finished.report.best == {key: said[key] for key in ("step", "metric", "value")}


class Scripted:
    """Gives figures in place of the evaluation: the loss that the test wants at each step."""

    def __init__(self, losses) -> None:
        self.losses = losses

    @hookimpl
    def trainkit_evaluate(self, run, split):
        return {"loss": self.losses[run.step]}


@pytest.mark.parametrize("keep", [2, 3])
def test_the_newest_checkpoints_and_the_best_are_kept(train, keep):
    newest = [48 - 8 * i for i in range(keep)][::-1]
    falling = train("run.duration=6ep", f"run.keep={keep}", listeners=[Scripted({8 * i: 9.0 - i for i in range(7)})])
    assert falling.checkpoints == newest
    rising = train("run.duration=6ep", f"run.keep={keep}", listeners=[Scripted({8 * i: 1.0 + i for i in range(7)})])
    assert rising.checkpoints == [8, *newest]
    second = train(
        "run.duration=6ep",
        f"run.keep={keep}",
        listeners=[Scripted({8: 3.0, 16: 2.0, 24: 2.0, 32: float("nan"), 40: float("-inf"), 48: 2.5})],
    )
    assert second.checkpoints == sorted({16, *newest})
    assert second.report.best == {"step": 16, "metric": "val.loss", "value": 2.0}
    assert [line["loss"] for line in second.of("val")][3:5] == [None, None], "JSON has no word for them"


def test_the_filled_recipe_says_everything_and_runs_again_to_the_same_weights(train, tmp_path):
    more = '[[callback]]\nuse = "clip_norm"\nmax_norm = 0.5\n' + SCHEDULE
    more += '[[callback]]\nuse = "early_stop"\npatience = 50\n'
    changes = "model.dropout=0.3", "run.duration=25ba", 'data.augment=[{use="shaken"}]', 'optimizer={use="adamw"}'
    first = train(*changes, more=more)
    filled = (first.folder / "recipe.toml").read_text(encoding="utf-8")
    again = train(text=filled)
    assert again.report.weights_sha256 == first.report.weights_sha256
    assert (again.folder / "recipe.toml").read_text(encoding="utf-8") == filled
    assert [{**line, "time": 0} for line in again.lines] == [{**line, "time": 0} for line in first.lines]
    assert tomllib.loads(filled)["data"]["augment"] == [{"use": "shaken", "size": 0.5}]


def test_the_same_seed_gives_the_same_run_whatever_was_drawn_before(train):
    first = train("model.dropout=0.3")
    torch.rand(17)
    assert train("model.dropout=0.3").report.weights_sha256 == first.report.weights_sha256
    assert train("model.dropout=0.3", "seed=6").report.weights_sha256 != first.report.weights_sha256


def test_each_random_choice_of_the_recipe_matters(train):
    """Order, dropout and augmentation each change the result: the hash would not notice a choice that nobody made."""
    variants = ["seed=5"], ["data.shuffle=false"], ["model.dropout=0.3"], ['data.augment=[{use="shaken"}]']
    assert len({train(*changes).report.weights_sha256 for changes in variants}) == 4


def test_listeners_and_logging_change_nothing(train):
    plain = train("run.duration=20ba")
    watched = train(
        "run.duration=20ba", "run.log_every=1ba", "run.evaluate_every=3ba", "run.save_every=2ba", listeners=[Watch()]
    )
    assert plain.report.weights_sha256 == watched.report.weights_sha256


def test_the_curves_are_drawn_at_the_end(train):
    assert (train('logger=[{use="curves"}]').folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_recipe_of_the_installed_plugins_needs_no_others(tmp_path, train):
    finished = train()
    recipe = load_recipe(finished.folder / "recipe.toml", [], Plugins())
    assert recipe.tables["data"]["use"] == "synthetic"
