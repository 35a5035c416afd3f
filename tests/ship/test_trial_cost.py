"""Cost of a trial, computed from its configuration, against counts of its steps."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ship.clip import FrozenCLIP
from ship.prompt_cost import estimate_prompt_operations, estimate_prompt_tokens
from ship.trial_config import TrialConfig
from ship.trial_cost import TrialCost, compute_trial_cost

VAE = {"name": "vae", "epochs": 10, "batch_size": 64, "n_ctx": 4}
COOP = {"name": "coop", "epochs": 20, "batch_size": 64, "n_ctx": 4}


def cost(n_classes: int = 20, n_seeds: int = 1, **keys: Any) -> TrialCost:
    """Return the cost of a trial with 16 shots, 10 base classes, and selection none."""
    settings = {"backbone": "pocket", "shots": 16, "selection": "none", **keys}
    settings = {"generator": VAE, "finetuner": COOP, **settings}
    config = TrialConfig.model_validate(settings)
    return compute_trial_cost(config, n_classes // 2, n_classes, n_seeds)


def test_operations_bound_torchs_count() -> None:
    """They are an upper bound that is less than 1.6 times too high.

    On a CPU torch does not count attention, SOT is computed once, and the last of four blocks
    computes only EOT's output.
    """
    clip = FrozenCLIP.load("pocket")
    n_prompts, length = 32, estimate_prompt_tokens("pocket", 5)
    tokens = torch.randn(
        (n_prompts, length, clip.text_width), generator=torch.Generator().manual_seed(0)
    ).requires_grad_()
    with FlopCounterMode(display=False) as counter:
        clip.text.encode(tokens, torch.full((n_prompts,), length - 1)).sum().backward()
    expected = 2 * n_prompts * estimate_prompt_operations("pocket", 5)
    assert expected / 1.6 < counter.get_total_flops() < expected


def test_seeds_multiply_operations_and_memory_but_not_launches() -> None:
    """They are trained together."""
    single, five = cost(), cost(n_seeds=5)
    assert five.operations == pytest.approx(5 * single.operations)
    assert five.memory == pytest.approx(5 * single.memory)
    assert five.launches == single.launches


def test_cost_of_stages() -> None:
    """Selection pseudo_new also trains on half of the base classes; authors trains five CoOps."""
    none, pseudo_new, authors = (
        cost(selection=name, eval_every=20) for name in ("none", "pseudo_new", "authors")
    )
    assert 1.4 * none.operations < pseudo_new.operations < 1.8 * none.operations
    assert 3 * none.operations < authors.operations < 5 * none.operations
    assert none.memory == pseudo_new.memory == authors.memory


def test_trial_without_prompts_costs_only_launches() -> None:
    """An adapter on cached features."""
    adapter = cost(generator={"name": "none"}, finetuner={"name": "clip_adapter", "epochs": 10})
    assert (adapter.operations, adapter.memory) == (0, 0)
    assert adapter.launches > 0


def test_cocoop_has_prompts_for_each_image() -> None:
    """A batch of 4 images costs about four times as much."""
    small, large = (
        cost(generator={"name": "none"}, finetuner={"name": "cocoop", "epochs": 1, "batch_size": n})
        for n in (1, 4)
    )
    assert large.operations == pytest.approx(small.operations)  # a fourth of the steps
    assert large.memory == pytest.approx(4 * small.memory)


def test_time_is_bound_by_launches_or_operations() -> None:
    """The longer of the two."""
    trial = TrialCost(operations=1e12, launches=1e6, memory=0)
    assert trial.seconds(operations_per_second=1e12, seconds_per_launch=1e-9) == pytest.approx(1)
    assert trial.seconds(operations_per_second=1e15, seconds_per_launch=6e-6) == pytest.approx(6)
