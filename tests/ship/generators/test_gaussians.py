"""Moments of few-shot features and of neighbors equal numpy and scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.generators import KnnGaussianConfig
from ship.generators import gaussians
from ship.generators.batched import BatchedGenerator
from ship.generators.gaussians import (
    KnnGaussian,
    compute_modality_shift,
    compute_neighbor_means,
    compute_neighbor_precision,
    compute_shrunk_cholesky,
    compute_within_class_contrasts,
)
from ship.seeds import SeedRng
from ship.subsets import FeatureSet
from tests.ship.conftest import all_seen, final_task

TEXT = torch.nn.functional.normalize(
    torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=-1
)


def images(counts: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw correlated features around class centers; the last class has none."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    mix = rng.standard_normal((8, 8))
    x = TEXT.numpy()[labels] + 0.5 + 0.1 * rng.standard_normal((len(labels), 8)) @ mix
    return torch.from_numpy(x), torch.from_numpy(labels)


def test_within_class_rows_have_the_pooled_covariance() -> None:
    """Their mean outer product is sum (x - m_c)(x - m_c)^T / (n - n_classes)."""
    x, labels = images([5, 1, 2, 7, 3])
    rows = compute_within_class_contrasts(x, labels, TEXT).numpy()
    assert rows.shape == (18 - 5, 8)
    pooled = np.zeros((8, 8))
    for c in range(5):
        apart = x[labels == c].numpy() - x[labels == c].numpy().mean(0)
        pooled += apart.T @ apart / (18 - 5)
    np.testing.assert_allclose(rows.T @ rows / len(rows), pooled, atol=1e-14)


def test_one_image_per_class_uses_deviations_from_text_features() -> None:
    """The covariance is that of image - text feature; a single image is rejected."""
    x, labels = images([1, 1, 1, 1, 1])
    rows = compute_within_class_contrasts(x, labels, TEXT).numpy()
    expected = np.cov((x - TEXT[labels]).numpy(), rowvar=False)
    np.testing.assert_allclose(rows.T @ rows / len(rows), expected, atol=1e-14)
    with pytest.raises(ValueError, match="requires 2 or more training images, got 1"):
        compute_within_class_contrasts(*images([1]), TEXT)


def test_modality_shift_weighs_classes_equally() -> None:
    """The number of images of a class does not matter."""
    x, labels = images([9, 1, 4])
    expected = np.mean([x[labels == c].numpy().mean(0) - TEXT[c].numpy() for c in range(3)], axis=0)
    np.testing.assert_allclose(
        compute_modality_shift(x, labels, TEXT).numpy(), expected, atol=1e-14
    )


@pytest.mark.parametrize("shrinkage", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("m", [3, 50])
def test_shrunk_cholesky_equals_the_shrunk_covariance(m: int, shrinkage: float | None) -> None:
    """L is lower triangular, also with fewer rows than dimensions."""
    rows = torch.from_numpy(np.random.default_rng(1).standard_normal((m, 8)))
    factor = compute_shrunk_cholesky(rows, shrinkage)
    s = shrinkage
    if s is None:
        s = ledoit_wolf_shrinkage(rows.numpy(), assume_centered=True)
    s = max(s, 1e-6)
    covariance = rows.T @ rows / m
    expected = (1 - s) * covariance + s * covariance.diagonal().mean() * torch.eye(8).double()
    torch.testing.assert_close(factor @ factor.T, expected, atol=1e-12, rtol=0)
    assert torch.equal(factor, factor.tril())


def test_equal_images_have_zero_covariance() -> None:
    """The factorization does not fail."""
    assert not compute_shrunk_cholesky(torch.zeros(4, 8, dtype=torch.float64), None).any()


SEEDS = [0, 1]


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Forty views and five text features, unit norm."""
    rng = np.random.default_rng(0)
    x, text = rng.standard_normal((40, 8)), rng.standard_normal((5, 8))
    return tuple(a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, text))  # type: ignore[return-value]


@pytest.mark.parametrize("around_text", [True, False])
@pytest.mark.parametrize("k", [1, 6, 64])
def test_neighbor_moments_equal_numpy(
    monkeypatch: pytest.MonkeyPatch, k: int, around_text: bool
) -> None:
    """Means of k views and 3 text copies; mean of d ((k - 1) S + tr(S) I)^-1."""
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
    result = compute_neighbor_precision(views, names, k, around_text=around_text).numpy()
    np.testing.assert_allclose(result, np.mean(precisions, axis=0), atol=1e-11)
    np.testing.assert_allclose(
        compute_neighbor_means(views, names, k, 3).numpy(), means, atol=1e-14
    )


def test_knn_gaussian_uses_all_classes_if_all_are_seen(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """As in few_shot, where features of seen classes are synthesized."""
    few = all_seen(final_task(clip, features, SEEDS, shots=3))
    generator = BatchedGenerator(KnnGaussian, KnnGaussianConfig(), few, clip, SEEDS)
    actual = generator.sample(few.synthetic_ids, SeedRng(SEEDS, "n"))
    assert actual.shape == (2, 4, 16) and bool(actual.isfinite().all())
