"""Cost of prompts in text towers with and without a causal mask."""

import pytest

from ship.prompt_cost import compute_padding_factor, compute_prompt_cost, is_bidirectional


@pytest.mark.parametrize(
    ("name", "cost", "bidirectional"),
    [
        ("ViT-B-16:openai", 1.0, False),
        ("RN50", 1.0, False),  # the same text tower
        ("ViT-L-14", 2.2, False),  # 1.5 times as wide
        ("MobileCLIP2-S0", 18.9, True),  # 77 tokens in place of 4
        ("ViT-B-16-SigLIP", 35.0, True),
        ("pocket", 0.1, False),
    ],
)
def test_prompt_cost_is_relative_to_vit_b_16(name: str, cost: float, bidirectional: bool) -> None:
    """It follows width, depth and the number of computed tokens."""
    assert compute_prompt_cost(name) == pytest.approx(cost, abs=0.06)
    assert is_bidirectional(name) == bidirectional


def test_padding_factor_is_at_least_1() -> None:
    """However short the context is."""
    assert [compute_padding_factor(length) for length in (2, 4, 64, 77)] == [1, 1, 16, 19]
