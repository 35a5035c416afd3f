"""Learned prompts: their start, their cost, and the effect of DePT's head."""

from typing import Any

import pytest
import torch

from ship.clip import FrozenCLIP
from ship.finetuners import prompts
from ship.finetuners.prompts import find_inner_depth
from ship.subsets import FeatureSet
from ship.tasks import Task
from tests.ship.by_hand import scatter
from tests.ship.conftest import build_clip, final_task, selection_task
from tests.ship.finetuners.cases import SEEDS, built, trained

EVERY_KIND = [(kind, place) for kind in (False, True) for place in ("end", "middle", "front")]


@pytest.fixture
def task(clip64: FrozenCLIP, features: FeatureSet) -> Task:
    """Four seen and four unseen classes."""
    return final_task(clip64, features, SEEDS, shots=3)


def text_features(finetuner: Any) -> torch.Tensor:
    """Return the text features of learned prompts, (seed, n_cls, feature)."""
    actual: torch.Tensor = finetuner.stack("text_features")
    return actual


@pytest.fixture
def images(features: FeatureSet) -> torch.Tensor:
    """Return the features of the test images."""
    return torch.tensor(features.test, dtype=torch.float64)


def test_class_specific_contexts_start_as_the_shared_context(
    task: Task, clip64: FrozenCLIP
) -> None:
    """Both kinds start as the same classifier, also from random vectors."""
    shared, class_specific = (
        text_features(built("coop", {"ctx_init": None, "class_specific": kind}, task, clip64))
        for kind in (False, True)
    )
    torch.testing.assert_close(class_specific, shared, atol=1e-12, rtol=0)


def test_only_a_shared_context_before_the_name_saves_tokens(task: Task, clip64: FrozenCLIP) -> None:
    """All other kinds of prompts cost whole prompts."""
    costs = {}
    for kind, place in EVERY_KIND:
        settings = {"class_specific": kind, "name_position": place}
        coop = built("coop", settings, task, clip64)
        before = clip64.n_processed_tokens
        text_features(coop)
        costs[kind, place] = clip64.n_processed_tokens - before
    assert len({cost for key, cost in costs.items() if key != (False, "end")}) == 1
    assert costs[False, "end"] < costs[True, "end"] / 1.5


@pytest.mark.parametrize("most", [1, 24])
def test_cocoop_in_parts_equals_a_single_pass(
    most: int, task: Task, clip64: FrozenCLIP, images: torch.Tensor, monkeypatch: Any
) -> None:
    """Loss, gradients and logits with 1 or 3 images per pass are equal."""
    few = images[::6]  # seven: pieces of unequal size
    sizes: list[int] = []

    def run() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        settings = {"batch_size": 4, "epochs": 1, "lr": 0.05, "reduction": 2}
        actual = built("cocoop", settings, task, clip64, 0.5)
        encode = actual.prototype.prompts._encode_all_seeds

        def watched(ctx: torch.Tensor, *inner: Any) -> torch.Tensor:
            sizes.append(8 * len(ctx))
            return encode(ctx, *inner)  # type: ignore[no-any-return]

        monkeypatch.setattr(actual.prototype.prompts, "_encode_all_seeds", watched)
        return trained(actual).state_dict(), actual.logits(few, {})

    whole = run()
    sizes.clear()
    monkeypatch.setattr(prompts, "PROMPTS_AT_ONCE", most)
    torch.testing.assert_close(run(), whole, atol=1e-10, rtol=0)
    assert max(sizes) == max(8, most) and sum(sizes) == (3 * 2 * 8 + 2 * len(few)) * 8


def test_dept_fuses_logits_of_base_classes_only(
    clip64: FrozenCLIP, features: FeatureSet, images: torch.Tensor
) -> None:
    """New classes have the prompts' logits; the total probability of base classes is unchanged."""
    task = selection_task(clip64, features, SEEDS, shots=3)
    dept = built("coop_dept", {"head_weight": 0.6}, task, clip64)
    scatter(dept.learned(), 0.3)
    result, seen = dept.logits(images, {}), task.seen
    prompt = task.logit_scale * images @ text_features(dept).detach().transpose(1, 2)
    for r in range(2):
        w = {name: value[r] for name, value in dept.state_dict().items()}
        scale, bias = w["head.image"]
        head = (scale * 10 * images + bias) @ w["head.weight"] + w["head.bias"]
        base = seen[r].nonzero()[:, 0]
        fused = (0.4 * prompt[r] + 0.6 * head)[:, base]
        torch.testing.assert_close(result[r][:, base].softmax(1), fused.softmax(1))
        torch.testing.assert_close(result[r][:, ~seen[r]], prompt[r][:, ~seen[r]])
        mass, of_prompt = (z[r].softmax(1)[:, base].sum(1) for z in (result, prompt))
        torch.testing.assert_close(mass, of_prompt)
        assert bool((fused.argmax(1) != prompt[r][:, base].argmax(1)).any())


def test_tcp_layer_must_be_inside_the_tower(clip64: FrozenCLIP) -> None:
    """The default is two thirds of the blocks; other layers are rejected."""
    assert [find_inner_depth(layer, clip64) for layer in (None, 1, 2)] == [2, 1, 2]
    with pytest.raises(ValueError, match="layer must be 1 to 2 for backbone 'tiny', whose text"):
        find_inner_depth(3, clip64)
    assert find_inner_depth(None, build_clip(layers=12)) == 8  # as many as ViT-B/16 has
