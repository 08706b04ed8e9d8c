"""What every executor keeps: each job comes back once, as it would have gone by itself, and nothing stays behind.

Each executor is opened once, for the jobs of `trainkit.testing.executing`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from trainkit.component import Component
from trainkit.testing.contract import Contract
from trainkit.testing.executing import NAMES, PRUNED, Story, reference, story_of
from trainkit.work import Job, Outcome

CLOSE = 1e-4  # of figures and weights: jobs that are trained together round otherwise than one by one
EVALUATIONS = [0.25, 0.5, 0.75, 1.0]


class ExecutorContract(Contract):
    """An executor carries jobs out, here or elsewhere, and says of each how it came to rest."""

    kind = "executor"

    @pytest.fixture
    def story(self, component: Component) -> Story:
        """What came of the jobs that it was given."""
        return story_of(component)

    def test_says_how_many_jobs_it_takes(self, story: Story) -> None:
        """Once it is open slots is a whole number of at least 1."""
        story.phase("training")
        counts = type(story.slots) is int and story.slots >= 1
        assert counts, f"{story.name}: opened, slots is {story.slots!r}; give a whole number from 1"

    def test_gives_each_job_back_once(self, story: Story) -> None:
        """Wait gives each job that was submitted once, as it was, with its outcome."""
        for phase, submitted in story.submitted.items():
            rested = story.phase(phase)
            for one in rested:
                pair = isinstance(one, tuple) and list(map(type, one)) == [Job, Outcome]
                assert pair, f"{story.name}: wait gave {one!r}, not (job, outcome)"
            jobs = sorted((job for job, _ in rested), key=lambda job: job.trial)
            names = [NAMES[job.trial] for job in jobs]
            assert jobs == submitted, (
                f"{story.name}: while {phase} wait gave the jobs {names}, each once as it was given"
            )

    def test_trains_what_a_run_by_itself_trains(self, story: Story) -> None:
        """Figures, updates and weights of a job are those of the same run by itself, up to rounding."""
        outcomes, weights = reference()
        for name in ("whole", "other"):
            _same(story, name, story.of("training", name), outcomes[name])
            _alike(story, name, weights[name])

    def test_pauses_and_goes_on(self, story: Story) -> None:
        """A job rests at the share of its run that it was trained until, and goes on from there."""
        outcomes, weights = reference()
        paused = story.of("training", "paused")
        assert paused.status == "paused", f"{story.name}: trained until 0.5 a job was {paused.status}: {paused.message}"
        _same(story, "paused", paused, outcomes["half"])
        _same(story, "paused", story.of("going on", "paused"), outcomes["paused"])
        _alike(story, "paused", weights["paused"])
        told = story.measured.get("paused", [])
        assert told == EVALUATIONS, f"{story.name}: a job that paused and went on told evaluations at {told}"

    def test_asks_whether_watched_jobs_go_on(self, story: Story) -> None:
        """Each evaluation is told; the reason that is given ends a watched job, and no other."""
        watched, other = (story.of("training", name) for name in ("watched", "other"))
        assert watched.status == "pruned", f"{story.name}: a watched job was {watched.status}, not pruned"
        assert PRUNED in watched.message, f"{story.name}: a pruned job says {watched.message!r}, not the reason given"
        assert other.status == "done", f"{story.name}: a job that is not watched was {other.status}"
        for name, wanted in (("whole", EVALUATIONS), ("watched", EVALUATIONS[:2])):
            told = story.measured.get(name, [])
            assert told == wanted, f"{story.name}: of the job '{name}' evaluations were told at {told}, not {wanted}"

    def test_failures_are_outcomes(self, story: Story) -> None:
        """What goes wrong in a job is its outcome, as a run by itself would have it, and others go on."""
        for name in ("refused", "failing"):
            ours, alone = story.of("failing", name), reference()[0][name]
            assert ours.status == alone.status, f"{story.name}: the job '{name}' was {ours.status}, not {alone.status}"
            same = (ours.defect, ours.origin) == (alone.defect, alone.origin)
            assert same, f"{story.name}: of the job '{name}' defect and origin are lost; hand outcomes on as they are"
        assert story.of("failing", "dying").status in ("done", "killed"), f"{story.name}: after failures it goes not on"

    def test_a_dead_worker_is_an_outcome(self, story: Story) -> None:
        """Where jobs are trained in other processes, the death of one is an outcome; tried again the job goes on."""
        again = story.of("trying again", "dying")
        if not story.elsewhere:
            return
        first = story.of("failing", "dying")
        assert first.status == "killed", f"{story.name}: a job whose process was killed was {first.status}, not killed"
        assert first.message, f"{story.name}: of a job whose process was killed no message says what happened"
        assert again.status == "done", f"{story.name}: tried again it was {again.status}: {again.message}"
        _alike(story, "dying", reference()[1]["whole"])

    def test_stops_with_a_checkpoint(self, story: Story) -> None:
        """Asked to stop, it gives running jobs back as interrupted, with a checkpoint that they go on from."""
        for job, outcome in story.phase("stopping"):
            assert outcome.status == "interrupted", (
                f"{story.name}: asked to stop, it gave the job '{NAMES[job.trial]}' as {outcome.status}"
            )
        steps, whole = story.of("stopping", "slow").steps, reference()[0]["whole"].steps
        assert 0 < steps < whole, f"{story.name}: asked to stop at the first evaluation, a job made {steps} updates"
        _alike(story, "slow", reference()[1]["whole"])

    def test_knows_the_plugins_that_were_given(self, story: Story) -> None:
        """Jobs may name components of the plugins that the site lists as modules."""
        noting = story.of("going on", "noting")
        assert noting.status == "done", (
            f"{story.name}: a job with a callback of a plugin given with -p was {noting.status}: {noting.message}; "
            "open the plugins of site.modules where jobs are trained"
        )

    def test_leaves_no_process(self, story: Story) -> None:
        """Closed, it leaves none of the processes that it has begun."""
        story.phase("closing")
        left = ", ".join(story.left)
        assert not left, f"{story.name}: closed, it leaves: {left}; end in close whatever was begun"

    def test_leaves_signals_alone(self, story: Story) -> None:
        """Opening it changes no handler of SIGINT and SIGTERM: the search has its own."""
        story.phase("training")
        assert story.handlers, f"{story.name}: it has set a handler of SIGINT or SIGTERM; the search stops it by stop()"

    def test_prints_nothing(self, story: Story) -> None:
        """What it has to say it says by site.say, and nothing of its workers reaches the terminal."""
        story.phase("training")
        assert not story.printed, f"{story.name}: it printed {story.printed[:200]!r}; tell users by site.say"


def _same(story: Story, name: str, ours: Outcome, alone: Outcome) -> None:
    for what in ("status", "trained", "steps"):
        one, other = getattr(ours, what), getattr(alone, what)
        assert one == other, f"{story.name}: {what} of the job '{name}' is {one}, by itself {other}: {ours.message}"
    figures = [{key: value for key, value in each.metrics.items() if key != "seconds"} for each in (ours, alone)]
    assert figures[0].keys() == figures[1].keys(), (
        f"{story.name}: the job '{name}' has the figures {sorted(figures[0])}"
    )
    for key, value in figures[1].items():
        near = math.isclose(figures[0][key], value, rel_tol=CLOSE, abs_tol=CLOSE)
        assert near, f"{story.name}: {key} of the job '{name}' is {figures[0][key]}, by itself {value}"


def _alike(story: Story, name: str, alone: Mapping[str, Any]) -> None:
    ours = story.weights.get(name)
    assert ours is not None, f"{story.name}: the job '{name}' has left no checkpoint in its folder"
    same = ours.keys() == alone.keys() and all(
        torch.allclose(ours[key].double(), value.double(), rtol=CLOSE, atol=CLOSE) for key, value in alone.items()
    )
    assert same, f"{story.name}: the weights of the job '{name}' are not those of the run by itself"
