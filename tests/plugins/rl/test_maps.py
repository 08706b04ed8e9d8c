"""Pictures of a policy, held against policies whose numbers are known."""

from __future__ import annotations

import torch

from trainkit_rl.maps import PIXELS, SIDE, looked_at, maps


def leaning(observed):
    """Takes the second action where the last number is above 0, and expects what the second one is."""
    return torch.stack((torch.zeros(len(observed)), 40 * observed[:, 3]), -1).double(), observed[:, 1].double()


MET = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.5, 0.01, 2.0])


def test_the_numbers_are_those_that_move_the_policy_most():
    def other(observed):
        return torch.stack((observed[:, 0], observed[:, 2]), -1).double(), observed[:, 0].double()

    assert looked_at(other, MET.double().mean(0), MET.double().std(0)) == (0, 2)
    assert 3 in looked_at(leaning, MET.double().mean(0), MET.double().std(0))


def test_actions_are_black_and_white_and_values_bright_where_much_is_expected():
    def sure(observed):
        preferences, _ = leaning(observed)
        return preferences + torch.stack((torch.zeros(len(observed)), 1e-3 * observed[:, 1]), -1), observed[
            :, 1
        ].double()

    pictures = maps(sure, MET)
    assert set(pictures) == {"policy_by_1_and_3", "value_by_1_and_3"}
    policy, value = pictures["policy_by_1_and_3"], pictures["value_by_1_and_3"]
    assert policy.shape == (SIDE * PIXELS, SIDE * PIXELS, 3)
    assert (policy[0] == 255).all(), "at the head the last number is high"
    assert (policy[-1] == 0).all()
    assert (value[:, 0] == 0).all()
    assert (value[:, -1] == 255).all()


def test_what_is_no_row_of_numbers_has_no_picture():
    assert maps(leaning, torch.zeros(5, 1, 8, 8)) == {}
    assert maps(leaning, torch.eye(4)) == {}, "one of four places"
