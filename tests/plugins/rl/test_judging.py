"""What rewards say of steps, and what losses make of it, held against sums written out and torch's distributions."""

from __future__ import annotations

import math

import pytest
import torch

from trainkit import DataError, DataSpec
from trainkit_rl import actor_critic, ppo_loss, reinforce_loss
from trainkit_rl.rollouts import discounted, drawn, generalised

STEPS, COPIES = 9, 2
SPEC = DataSpec((4,), "classification", 3, ("0", "1", "2"))


def played(seed=0):
    draw = torch.Generator().manual_seed(seed)
    rewards, values, after = torch.randn(3, STEPS, COPIES, generator=draw, dtype=torch.float64)
    over = torch.rand(STEPS, COPIES, generator=draw) < 0.3
    return rewards, values, after, over


def test_advantages_are_the_sums_of_their_definition():
    rewards, values, after, over = played()
    found = generalised(rewards, values, after, over, 0.9, 0.8)
    for copy in range(COPIES):
        for step in range(STEPS):
            total, weight = 0.0, 1.0
            for later in range(step, STEPS):
                total += weight * float(rewards[later, copy] + 0.9 * after[later, copy] - values[later, copy])
                weight *= 0.9 * 0.8
                if over[later, copy]:
                    break
            assert float(found[step, copy]) == pytest.approx(total, rel=1e-12)


def test_returns_are_the_sums_of_discounted_rewards_and_of_what_comes_later():
    rewards, _, _, over = played(1)
    rest = torch.tensor([3.0, -2.0], dtype=torch.float64)
    found = discounted(rewards, rest, over, 0.9)
    for copy in range(COPIES):
        for step in range(STEPS):
            total, ended = 0.0, False
            for later in range(step, STEPS):
                total += 0.9 ** (later - step) * float(rewards[later, copy])
                ended = bool(over[later, copy])
                if ended:
                    break
            total += 0.0 if ended else 0.9 ** (STEPS - step) * float(rest[copy])
            assert float(found[step, copy]) == pytest.approx(total, rel=1e-12)


def test_with_lambda_1_advantages_are_returns_less_values():
    rewards, values, _, over = played(2)
    after = torch.cat((values[1:], torch.zeros(1, COPIES, dtype=torch.float64)))
    advantages = generalised(rewards, values, torch.where(over, 0.0, after), over, 0.9, 1.0)
    returns = discounted(rewards, torch.zeros(COPIES, dtype=torch.float64), over, 0.9)
    assert torch.allclose(advantages, returns - values, rtol=1e-12)


def test_actions_follow_from_numbers_by_the_probabilities_of_the_policy():
    preferences = torch.tensor([[0.0, 1.0, -1.0]]).expand(20001, 3)
    numbers = torch.linspace(0, 1, 20002, dtype=torch.float64)[:-1]
    actions, logs = drawn(preferences, numbers)
    policy = torch.distributions.Categorical(logits=preferences.double())
    shares = torch.bincount(actions, minlength=3) / len(actions)
    assert torch.allclose(shares.double(), policy.probs[0], atol=1e-3)
    assert torch.allclose(logs, policy.log_prob(actions))
    assert actions.sort().values.equal(actions), "larger numbers give later actions"


def steps(count=6, seed=0):
    draw = torch.Generator().manual_seed(seed)
    outputs = torch.randn(count, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(3, (count,), generator=draw)
    advantages, returns, before = torch.randn(3, count, generator=draw, dtype=torch.float64)
    return outputs, actions, advantages, returns, before - 1.0


def packed(actions, advantages, returns, before):
    return torch.stack([actions.double(), advantages, returns, before], -1)


def test_the_clipped_surrogate_is_the_published_formula():
    outputs, actions, advantages, returns, before = steps()
    loss = ppo_loss(SPEC, clip=0.2, value=0.25, entropy=0.1)
    outputs = outputs.detach()
    found = loss(outputs, packed(actions, advantages, returns, before))
    policy = torch.distributions.Categorical(logits=outputs[:, :3])
    total, clipped = 0.0, 0
    for step in range(len(actions)):
        ratio = math.exp(float(policy.log_prob(actions)[step]) - float(before[step]))
        gain = min(ratio * float(advantages[step]), min(max(ratio, 0.8), 1.2) * float(advantages[step]))
        clipped += gain != ratio * float(advantages[step])
        error = (float(outputs[step, 3]) - float(returns[step])) ** 2
        total += -gain + 0.25 * error - 0.1 * float(policy.entropy()[step])
    assert 0 < clipped < len(actions), "some steps are clipped, and some are not"
    assert float(found) == pytest.approx(total / len(actions), rel=1e-12)


def test_a_ratio_that_has_gone_far_enough_has_no_gradient():
    outputs, actions, _, returns, _ = steps()
    logs = torch.distributions.Categorical(logits=outputs[:, :3]).log_prob(actions).detach()
    advantages = torch.ones(6, dtype=torch.float64)
    before = logs - math.log(1.5)  # the ratio is 1.5 for all
    loss = ppo_loss(SPEC, value=0.0)
    (gradient,) = torch.autograd.grad(loss(outputs, packed(actions, advantages, returns, before)), outputs)
    assert not gradient.any()
    (gradient,) = torch.autograd.grad(loss(outputs, packed(actions, -advantages, returns, before)), outputs)
    assert gradient.any(), "what was a mistake is undone from however far"


def test_the_policy_gradient_is_advantage_times_the_slope_of_the_log_probability():
    outputs, actions, advantages, returns, before = steps()
    loss = reinforce_loss(SPEC, value=0.0)
    (gradient,) = torch.autograd.grad(loss(outputs, packed(actions, advantages, returns, before)), outputs)
    probabilities = outputs[:, :3].softmax(-1)
    slope = torch.nn.functional.one_hot(actions, 3) - probabilities
    assert torch.allclose(gradient[:, :3], -advantages[:, None] * slope / len(actions))
    assert not gradient[:, 3].any()


@pytest.mark.parametrize("made", [ppo_loss, reinforce_loss])
def test_losses_ask_for_a_value_more_and_predict_actions(made):
    loss = made(SPEC)
    outputs = torch.randn(5, loss.outputs)
    assert loss.outputs == 4
    assert torch.equal(loss.predictions(outputs), outputs[:, :3])
    assert torch.equal(loss.details(outputs)["value"], outputs[:, 3])
    nothing = loss.equal(torch.zeros(5, dtype=torch.int64))
    assert float(loss(nothing, torch.arange(5) % 3)) == pytest.approx(math.log(3)), "as a probe expects it"


def test_what_is_no_choice_among_actions_is_refused():
    for made in (ppo_loss, reinforce_loss, actor_critic):
        with pytest.raises(DataError, match=r"actions, and the data's task is regression"):
            made(DataSpec((4,), "regression", 1))
    with pytest.raises(DataError, match=r"\(5, 2\) are no steps that were played"):
        ppo_loss(SPEC)(torch.zeros(5, 4), torch.zeros(5, 2))


def test_the_networks_begin_as_published():
    torch.manual_seed(0)
    model = actor_critic(DataSpec((4,), "classification", 3, ("0", "1", "2")), widths=(64, 64))
    first, last, worth = model.policy[0].weight, model.policy[-1].weight, model.value[-1].weight
    assert torch.allclose(first.T @ first, 2 * torch.eye(4), atol=1e-5)
    assert torch.allclose(last @ last.T, 1e-4 * torch.eye(2), atol=1e-9)
    assert worth.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert not any(part.any() for name, part in model.named_parameters() if name.endswith("bias"))
    outputs = model(torch.randn(7, 4))
    assert outputs.shape == (7, 3)
