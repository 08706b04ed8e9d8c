"""Models of sequences write on from a text: what follows is what the last position of the whole text says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainkit import DataSpec
from trainkit_sequences.models import lstm, tcn

TEXT = DataSpec((12,), "tokens", 11)


@pytest.mark.parametrize("make", [lambda: lstm(TEXT, width=8, layers=2), lambda: tcn(TEXT, widths=(8, 8))])
def test_what_follows_is_what_the_whole_text_says(make: Any) -> None:
    torch.manual_seed(1)
    model: Any = make().double().eval()
    text = torch.randint(11, (2, 12), generator=torch.Generator().manual_seed(2))
    state: Any = None
    with torch.inference_mode():
        for start, end in ((0, 5), (5, 6), (6, 9), (9, 10), (10, 12)):
            scores, state = model.following(text[:, start:end], state)
            assert torch.allclose(scores, model(text[:, :end])[:, -1], rtol=0, atol=1e-12), end
        for _ in range(3):  # beyond a sample's length
            scores, state = model.following(scores.argmax(1, keepdim=True), state)
            assert scores.shape == (2, 11)


def test_tcn_sees_as_much_of_a_long_text_as_a_sample_has() -> None:
    model: Any = tcn(TEXT, widths=(8, 8)).eval()
    text = torch.randint(11, (1, 20))
    with torch.inference_mode():
        torch.testing.assert_close(model.following(text)[0], model(text[:, -12:])[:, -1])
