"""Gaussians from nearest pictures: moments by hand; that features have them, test_controls says."""

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.configs.generators import KnnGaussianConfig
from ship.generators import gaussians
from ship.generators.fit import FusedGenerator
from ship.generators.gaussians import KnnGaussian, neighbour_means, neighbour_precision
from ship.replicas import ReplicaRng
from ship.subsets import FeatureSet
from tests.ship.conftest import all_seen, final_task

SEEDS = [0, 1]


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Forty views and five text features, unit norm."""
    rng = np.random.default_rng(0)
    x, text = rng.standard_normal((40, 8)), rng.standard_normal((5, 8))
    return tuple(a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, text))  # type: ignore[return-value]


@pytest.mark.parametrize("around_text", [True, False])
@pytest.mark.parametrize("k", [1, 6, 64])
def test_moments_by_hand(monkeypatch: pytest.MonkeyPatch, k: int, around_text: bool) -> None:
    """Mean of k views and 3 texts; mean of d ((k - 1) S + tr(S) I)^-1, in parts of two classes."""
    monkeypatch.setattr(gaussians, "_CLASSES_AT_ONCE", 2)
    x, text = planted()
    means, precisions = [], []
    for t in text:
        near = x[np.argsort(-(x @ t))[:k]]
        means.append(np.concatenate([near, np.tile(t, (3, 1))]).mean(0))
        apart = near - (t if around_text else near.mean(0))
        s = apart.T @ apart / max(len(near) - 1, 1)
        if np.trace(s) < 1e-12:  # one view around itself
            precisions.append(8 * np.eye(8))
            continue
        total = max(len(near) - 1, 1) * s + np.trace(s) * np.eye(8)
        precisions.append(8 * np.linalg.inv(total))
    views, names = torch.from_numpy(x), torch.from_numpy(text)
    found = neighbour_precision(views, names, k, around_text=around_text).numpy()
    np.testing.assert_allclose(found, np.mean(precisions, axis=0), atol=1e-11)
    np.testing.assert_allclose(neighbour_means(views, names, k, 3).numpy(), means, atol=1e-14)


def test_where_all_classes_are_seen_all_of_them_have_a_part(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """As in few_shot, where features of seen classes are drawn."""
    few = all_seen(final_task(clip, features, SEEDS, shots=3))
    generator = FusedGenerator(KnnGaussian, KnnGaussianConfig(), few, clip, SEEDS)
    made = generator.sample(few.synthesized_ids, ReplicaRng(SEEDS, "n"))
    assert made.shape == (2, 4, 16) and bool(made.isfinite().all())
