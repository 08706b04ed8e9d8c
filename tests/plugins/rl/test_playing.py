"""Whole runs on a corridor: what is played, trained on, measured, saved, and found again."""

from __future__ import annotations

import pytest
import torch

from trainkit import CheckpointError, RunError, hookimpl
from trainkit.launch import launch
from trainkit.testing.ended import identical
from trainkit_rl.environment import Player, seed_of
from trainkit_rl.rollouts import Stage, Told, returns_of

METHODS = ("ppo", "reinforce")


def right(observed):
    """A policy that walks to the end, and worth the place."""
    return torch.tensor([[0.0, 50.0]]).expand(len(observed), 2).double(), observed[:, 0].double()


def left(observed):
    return right(observed)[0].flip(-1), observed[:, 0].double()


# ------------------------------------------------------------ playing


def test_an_end_is_worth_nothing_and_a_cut_what_is_seen_last():
    stage = Stage("tests/Corridor-v0", 2, seed=0)
    told = Told()
    played = stage.play(right, 8, 0, told, whole=False, gamma=0.9)
    assert played.over.any()
    assert not played.after[played.over].any(), "episodes that have come to their end bring nothing more"
    on = ~played.over[:-1]
    assert torch.equal(played.after[:-1][on], played.values[1:][on])
    assert torch.equal(played.rewards == 1.0, played.over)
    assert told.steps == 16
    assert len(told.rewards) == int(played.over.sum())

    stage = Stage("tests/Corridor-v0", 8, seed=0)
    played = stage.play(left, 12, 0, Told(), whole=False, gamma=0.9)
    assert played.over[11].all()
    assert not played.over[:11].any()
    assert any(player.observed[0] > 0 for player in stage.players), "new episodes have begun elsewhere"
    assert torch.equal(played.after[11], torch.zeros(8, dtype=torch.float64)), "what was seen last is the first place"
    assert played.observations[:, :, 0].max() > 0, "no observation is another's memory"


def test_the_next_rollout_goes_on_where_the_last_one_stood():
    stage = Stage("tests/Corridor-v0", 1, seed=0)
    first = stage.play(left, 5, 0, Told(), whole=False, gamma=0.9)
    second = stage.play(left, 7, 1, Told(), whole=False, gamma=0.9)
    assert stage.episodes == [2], "twelve steps make an episode, and another one has begun"
    assert not first.over.any()
    assert second.over.flatten().tolist() == [False] * 6 + [True]


def test_whole_episodes_have_the_returns_that_they_come_to():
    stage = Stage("tests/Corridor-v0", 3, seed=0)
    told = Told()
    played = stage.play(left, 5, 0, told, whole=True, gamma=0.9)
    assert not played.over.any()
    rest = sum(-0.1 * 0.9**step for step in range(7))  # of twelve steps five were in the rollout
    assert played.rest.tolist() == pytest.approx([rest] * 3)
    assert told.steps == 36
    assert told.rewards == pytest.approx([-1.2] * 3)
    assert stage.play(left, 5, 1, told, whole=True, gamma=0.9).rewards.shape == (5, 3)
    assert stage.episodes == [2, 2, 2], "every call begins with new episodes"


def test_episodes_of_an_evaluation_follow_from_their_seeds():
    rewards, steps = returns_of("tests/Corridor-v0", range(5), lambda observed: right(observed)[0].argmax(-1))
    player = Player("tests/Corridor-v0")
    for seed in range(5):
        player.begin(seed)
        far = 5 - round(5 * float(player.observed[0]))
        assert steps[seed] == far
        assert rewards[seed] == pytest.approx(1.0 - 0.1 * (far - 1))
    assert len(set(steps)) > 1


def test_discrete_observations_become_rows_and_actions_begin_where_they_do():
    player = Player("tests/Numbers-v0")
    assert (player.shape, player.actions) == ((6,), 2)
    player.begin(0)
    place = int(player.observed.argmax())
    assert player.observed.sum() == 1
    player.act(1)
    assert int(player.observed.argmax()) == place + 1


def test_a_single_number_without_an_axis_is_a_row_of_one(train):
    player = Player("tests/Dot-v0")
    player.begin(0)
    assert player.shape == player.observed.shape == (1,)
    player.act(1)
    assert player.observed.tolist() == pytest.approx([player._environment.unwrapped.place / 5])


@pytest.mark.parametrize("method", METHODS)
def test_an_episode_without_an_end_is_told(train, method, monkeypatch):
    monkeypatch.setattr("trainkit_rl.environment.ENDLESS", 30)
    with pytest.raises(
        RunError, match=r"'tests/Endless-v0' has no limit .* is not over after 30\n  register it with max"
    ):
        train("data.environment=tests/Endless-v0", "run.duration=1ep", method=method)


class Signalled:
    """A signal comes while the evaluation after an update is played."""

    def __init__(self, step):
        self.step, self.told = step, []

    @hookimpl(wrapper=True)
    def trainkit_evaluate(self, run):
        if run.step == self.step:
            run.measuring = lambda done, total: self.note(run, done)
        return (yield)

    def note(self, run, done):
        self.told.append(done)
        if len(self.told) == 3:
            run.stop_reason, run.interrupted, run.interrupted_at = "signal SIGTERM", True, 1e-9


def test_a_signal_ends_an_evaluation_which_is_played_when_the_run_goes_on(train, load, plugins, tmp_path):
    signalled = Signalled(6)
    report = launch(load(), plugins, folder=tmp_path / "cut", listeners=[signalled], say=lambda text: None)
    assert (report.status, report.steps, len(signalled.told)) == ("interrupted", 6, 3)
    on, straight = train(folder=tmp_path / "cut"), train()
    assert (on.lines, on.report.weights_sha256) == (straight.lines, straight.report.weights_sha256)


def test_seeds_of_copies_and_episodes_are_apart():
    seeds = {seed_of(run, copy, episode) for run in range(4) for copy in range(8) for episode in range(16)}
    assert len(seeds) == 4 * 8 * 16
    assert seed_of(1, 2, 3) == seed_of(1, 2, 3)


# ------------------------------------------------------------ training


class Seen:
    """The batches of each update as the core was given them, and the model's outputs for them before it."""

    def __init__(self) -> None:
        self.batches = []

    @hookimpl(trylast=True)
    def trainkit_train_step(self, run, batches):
        with torch.no_grad():
            self.batches.append((run.epoch, batches[0].inputs, batches[0].targets, run.model(batches[0].inputs)))


def test_updates_are_made_with_what_was_played(load, plugins, tmp_path):
    seen = Seen()
    launch(load(), plugins, folder=tmp_path / "run", listeners=[seen], say=lambda text: None)
    assert len(seen.batches) == 18
    for epoch in (0, 2, 4):
        of_it = [part for part in seen.batches if part[0] in (epoch, epoch + 1)]
        _, _, targets, outputs = of_it[0]
        logs = torch.log_softmax(outputs[:, :2], -1).gather(-1, targets[:, :1].long()).squeeze(-1)
        assert torch.allclose(logs, targets[:, 3], atol=1e-5), "the first update meets the policy that has played"
        passes = [
            sorted(row.tolist() for part in of_it if part[0] == number for row in part[2])
            for number in (epoch, epoch + 1)
        ]
        assert passes[0] == passes[1], "each pass is over the same steps"
        advantages = torch.cat([part[2][:, 1] for part in of_it if part[0] == epoch])
        assert advantages.mean().item() == pytest.approx(0, abs=1e-5)
        assert advantages.std().item() == pytest.approx(1, abs=1e-3)
    first, later = (sorted(row.tolist() for part in seen.batches if part[0] == n for row in part[1]) for n in (0, 2))
    assert first != later, "after two passes it is played anew"


@pytest.mark.parametrize("method", METHODS)
def test_the_corridor_is_learnt_to_its_end(train, method):
    done = train("run.duration=16ep", "optimizer.lr=0.03", "callback.0.gamma=0.9", method=method)
    assert done.report.metrics["test.return"] > 0.6, "at most four steps of a tenth before the last one"
    assert done.report.best["metric"] == "val.return"
    returns = [line["return"] for line in done.lines if line["split"] == "val"]
    assert done.report.best["value"] == max(returns), "a higher return is a better one"
    steps = [line["environment_steps"] for line in done.lines if line["split"] == "train"]
    assert steps == sorted(steps)


def test_evaluations_do_not_move_the_training(train):
    often, seldom = train(), train("run.evaluate_every=6ep")
    assert all(identical(often.tensors[name], seldom.tensors[name]) for name in often.tensors)


def test_two_runs_of_one_seed_are_alike_and_of_another_one_not(train):
    one, again, other = train(), train(), train("seed=4")
    assert one.lines == again.lines
    assert one.report.weights_sha256 == again.report.weights_sha256 != other.report.weights_sha256


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_stopped_anywhere_goes_on_bit_for_bit(train, method):
    straight = train(method=method)
    parts = train(stop=2, method=method)
    for stop in (3, 5, 9):  # at the end of a pass, within the second one, and where it is played anew
        parts = train(stop=stop, folder=parts.folder, method=method)
        assert parts.report.status == "interrupted"
    parts = train(folder=parts.folder, method=method)
    assert parts.lines == straight.lines
    assert parts.state == straight.state
    assert straight.tensors.keys() == parts.tensors.keys()
    assert all(identical(straight.tensors[name], parts.tensors[name]) for name in straight.tensors)


def test_an_environment_that_does_not_come_back_is_told(train):
    stopped = train("data.environment=tests/Jittery-v0", stop=2)
    with pytest.raises(
        CheckpointError, match=r"tests/Jittery-v0' does not come back .*: the last observation is anoth"
    ):
        train("data.environment=tests/Jittery-v0", "run.on_conflict=recipe", folder=stopped.folder)


def test_what_is_not_finite_is_told_with_its_episode(train):
    with pytest.raises(RunError, match=r"'tests/Broken-v0' gives what is not finite: reward nan"):
        train("data.environment=tests/Broken-v0")


def test_rates_follow_the_return(train):
    react = '[[schedule.react]]\nuse = "plateau"\npatience = 0\nfactor = 0.5\nthreshold = 9.0\n'
    more = f'[schedule]\nuse = "constant"\n{react}'
    done = train(more=more)
    rates = [line["lr/0"] for line in done.lines if line["split"] == "train"]
    assert rates[-1] < rates[0], "a return that does not get better by 9 halves the rate"
    assert next(kind for _, kind in done.run.events).startswith("plateau")


def test_averaged_weights_are_played_too(train):
    done = train("callback.0.greedy=false", more='[[callback]]\nuse = "ema"\ndecay = 0.9999\n')
    plain = train("callback.0.greedy=false")
    assert all(identical(done.tensors[f"model/{name}"], part) for name, part in plain.run.model.state_dict().items())
    ours, theirs = ([line["return"] for line in part.lines if line["split"] == "val"] for part in (done, plain))
    assert ours != theirs, "what is measured is the average"


def test_pages_say_why_they_show_no_confusion(train):
    from trainkit.report.look import look_at

    done = train("run.duration=1ep")
    look = look_at(done.run, "val")
    assert look.confusion is None
    assert look.notes == ["what a policy does is measured by playing: there are no right actions to hold it against"]
    assert done.run.model.training
    drawn_ones = sorted(file.name for file in (done.folder / "pictures").iterdir())
    assert drawn_ones == ["policy_by_0_and_1.png", "value_by_0_and_1.png"]


def test_predictions_are_actions_and_no_targets_that_nobody_knows(train, plugins):
    from trainkit.finished import predict_run

    found = predict_run(train("run.duration=1ep").folder, "val", plugins)
    assert set(found) == {"index", "outputs", "probabilities", "predicted", "raw", "value"}
    assert found["value"].shape == (4,)


def test_reports_and_comparisons_know_that_a_higher_return_is_better(train, plugins):
    from trainkit.compare.entries import read_entries
    from trainkit.compare.rows import make_rows
    from trainkit.report.command import higher_of
    from trainkit.results import read_result

    done = train("run.duration=1ep")
    assert higher_of(read_result(done.folder, "it"), plugins) == {"return": True}
    assert done.run.higher_is_better("val.return")
    assert not done.run.higher_is_better("val.length")
    (row,) = make_rows(read_entries([str(done.folder)], lambda text: None), plugins)
    assert row.higher["val.return"] is True
    assert "val.length" not in row.higher
