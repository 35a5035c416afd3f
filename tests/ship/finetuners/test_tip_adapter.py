"""Tip-Adapter's cache, of real and of synthetic features; -F's loss is in test_losses."""

import numpy as np
import pytest

from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from tests.ship.by_hand import unit
from tests.ship.conftest import selection_task
from tests.ship.finetuners.cases import SEEDS, built


@pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f"])
@pytest.mark.parametrize("weight", [None, 1.0, 0.25])
def test_logits_are_zero_shots_and_the_caches(
    name: str, weight: float | None, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Keys are means over views, then normalised; whatever a synthetic feature weighs, one is one.

    Without synthetic features new classes have no key.
    """
    task = selection_task(clip64, features, SEEDS, shots=3)
    tip = built(name, {}, task, clip64, weight)
    made = None if weight is None else tip.stack.state["cache.keys"][:, :6].detach().numpy()
    x = task.unseen()[0].features[:, 0]
    found = tip.logits(x, {"alpha": 2.0, "beta": 3.0})
    for r in range(2):
        keys, labels = unit(task.features[r].mean(1).numpy()), task.labels[r].tolist()
        if made is not None:
            keys = np.concatenate([made[r], keys])
            labels = [*task.synthesized_ids[r].repeat_interleave(3).tolist(), *labels]
        cached = 2 * np.exp(-3 * (1 - x.numpy() @ keys.T)) @ np.eye(4)[labels]
        zero_shot = (task.logit_scale * x @ task.text_features.T).numpy()
        np.testing.assert_allclose(found[r].numpy(), zero_shot + cached, atol=1e-10)
