"""Moments of few-shot features against numpy, scikit-learn, and what was planted."""

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor

from ship.generators.gaussians import modality_shift, shrunk_cholesky, within_class_rows

TEXT = torch.nn.functional.normalize(
    torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=-1
)


def pictures(counts: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Correlated features around class centres, classes mixed up; the last class has none."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    mix = rng.standard_normal((8, 8))
    x = TEXT.numpy()[labels] + 0.5 + 0.1 * rng.standard_normal((len(labels), 8)) @ mix
    return torch.from_numpy(x), torch.from_numpy(labels)


def test_rows_have_the_pooled_covariance() -> None:
    """Their mean outer product is sum (x - m_c)(x - m_c)^T / (n - n_classes)."""
    x, labels = pictures([5, 1, 2, 7, 3])
    rows = within_class_rows(x, labels, TEXT).numpy()
    assert rows.shape == (18 - 5, 8)
    pooled = np.zeros((8, 8))
    for c in range(5):
        apart = x[labels == c].numpy() - x[labels == c].numpy().mean(0)
        pooled += apart.T @ apart / (18 - 5)
    np.testing.assert_allclose(rows.T @ rows / len(rows), pooled, atol=1e-14)


def test_one_picture_a_class_falls_back_on_the_text_features() -> None:
    """The covariance of picture - text feature over classes, unbiased; of one picture, none."""
    x, labels = pictures([1, 1, 1, 1, 1])
    rows = within_class_rows(x, labels, TEXT).numpy()
    expected = np.cov((x - TEXT[labels]).numpy(), rowvar=False)
    np.testing.assert_allclose(rows.T @ rows / len(rows), expected, atol=1e-14)
    with pytest.raises(ValueError, match="at least 2 training pictures, got 1"):
        within_class_rows(*pictures([1]), TEXT)


def test_shift_weighs_classes_alike() -> None:
    """However many pictures each has."""
    x, labels = pictures([9, 1, 4])
    expected = np.mean([x[labels == c].numpy().mean(0) - TEXT[c].numpy() for c in range(3)], axis=0)
    np.testing.assert_allclose(modality_shift(x, labels, TEXT).numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("shrinkage", [None, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("m", [3, 50])
def test_factor_is_of_the_shrunk_covariance(m: int, shrinkage: float | None) -> None:
    """L L^T, also where there are fewer rows than dimensions; L is lower triangular."""
    rows = torch.from_numpy(np.random.default_rng(1).standard_normal((m, 8)))
    factor = shrunk_cholesky(rows, shrinkage)
    s = shrinkage
    if s is None:
        s = ledoit_wolf_shrinkage(rows.numpy(), assume_centered=True)
    s = max(s, 1e-6)
    covariance = rows.T @ rows / m
    expected = (1 - s) * covariance + s * covariance.diagonal().mean() * torch.eye(8).double()
    torch.testing.assert_close(factor @ factor.T, expected, atol=1e-12, rtol=0)
    assert torch.equal(factor, factor.tril())


def test_no_spread_is_no_noise() -> None:
    """Equal pictures give a covariance of 0, not a failed factorisation."""
    assert not shrunk_cholesky(torch.zeros(4, 8, dtype=torch.float64), None).any()
