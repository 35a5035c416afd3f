"""Closed-form classifiers: GDA's discriminant and Tip-Adapter's cache.

GDA equals scikit-learn's LDA and the authors' closed forms. Tip-Adapter-F's loss is in test_losses.
"""

from dataclasses import replace
from typing import Any, Final, Literal

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.finetuners import GDAConfig
from ship.finetuners.gda import Rows, compute_shared_precision, fit_discriminant
from ship.subsets import FeatureSet
from ship.tasks import Task
from tests.ship.by_hand import unit
from tests.ship.conftest import build_features, final_task, selection_task
from tests.ship.finetuners.cases import SEEDS, built

ESTIMATES: Final[tuple[Literal["pinv", "ks"], ...]] = ("pinv", "ks")


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP) -> Task:
    """Four base classes with three images in three views, four new ones without."""
    return final_task(clip64, build_features(clip64), SEEDS, shots=3)


def centered(scores: np.ndarray | Tensor) -> np.ndarray:
    """Subtract each image's mean score, (n, n_cls)."""
    scores = np.asarray(scores)
    return scores - scores.mean(1, keepdims=True)


def terms(gda: Any, task: Task, x: Tensor) -> Tensor:
    """Return the discriminant at alpha 1, without zero-shot logits, (seed, n, n_cls)."""
    return gda.logits(x, {"alpha": 1.0}) - task.logit_scale * x @ task.text_features.T


@pytest.mark.parametrize("shrinkage", [0.1, 0.5, 1.0])
def test_gda_equals_scikit_learns_lda(task: Task, clip64: FrozenCLIP, shrinkage: float) -> None:
    """Decision functions agree up to a constant per image, over all views."""
    gda = built("gda", {"shrinkage": shrinkage}, task, clip64)
    x = task.load_unseen()[0].features[:, 0]
    actual = terms(gda, task, x)
    for r in range(len(SEEDS)):
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[0.25] * 4)
        lda.fit(task.features[r].flatten(0, 1).numpy(), task.labels[r].repeat_interleave(3).numpy())
        expected = centered(lda.decision_function(x.numpy()))
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(centered(actual[r, :, :4]), expected, atol=1e-8)


def test_row_weights_equal_repetitions(task: Task) -> None:
    """A row of weight 3 counts as three equal rows."""
    x, y = task.features[0, :-2, 0], task.labels[0, :-2]  # the last class has one image
    times = torch.tensor([1, 3, 2, 1, 1, 1, 2, 2, 1, 3])
    rows = Rows(x, y, times.double(), 4)
    weight, bias = fit_discriminant(rows.means(), compute_shared_precision(rows, "ks", 0.3))
    repeated = x.repeat_interleave(times, dim=0).numpy()
    labels = y.repeat_interleave(times).numpy()
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(repeated, labels)
    # pooled over rows as in LDA with the rows' priors, which the classifier ignores
    expected = lda.decision_function(x.numpy()) - np.log(lda.priors_)
    np.testing.assert_allclose(centered(x @ weight.T + bias), centered(expected), atol=1e-8)
    apart = Rows(x.repeat_interleave(times, dim=0), torch.from_numpy(labels), torch.ones(17), 4)
    for estimate in ESTIMATES:
        torch.testing.assert_close(
            compute_shared_precision(rows, estimate, None),
            compute_shared_precision(
                replace(apart, weights=apart.weights.double()), estimate, None
            ),
            atol=1e-6,
            rtol=1e-8,
        )


def by_hand(means: np.ndarray, precision: np.ndarray, x: np.ndarray) -> np.ndarray:
    """mu^T P x - mu^T P mu / 2 of each class, (n, m)."""
    w, b = means @ precision, -0.5 * np.einsum("cd,de,ce->c", means, precision, means)
    return x @ w.T + b


def views_of(task: Task, seed_index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all views of a seed's images, and their labels."""
    n, views = task.counts[seed_index], task.features.shape[2]
    x = task.features[seed_index, :n].reshape(n * views, -1).numpy()
    return x, task.labels[seed_index, :n].numpy().repeat(views)


def test_gda_ks_equals_the_papers_few_shot_formula(task: Task, clip64: FrozenCLIP) -> None:
    """The precision is d ((N - 1) S + tr(S) I)^-1 over all views (eq. 4)."""
    gda = built("gda", {}, task, clip64)
    test = task.load_unseen()[1].features[:, 0]
    x, y = views_of(task, 1)
    means = np.stack([x[y == c].mean(0) for c in range(4)])
    residuals = x - means[y]
    n, d = x.shape
    cov = residuals.T @ residuals / (n - 1)
    precision = d * np.linalg.inv((n - 1) * cov + np.trace(cov) * np.eye(d))
    actual = terms(gda, task, test)[1, :, :4]
    np.testing.assert_allclose(
        centered(actual), centered(by_hand(means, precision, test.numpy())), atol=1e-9
    )


def test_gda_pinv_equals_the_authors_base_to_new_code(task: Task, clip64: FrozenCLIP) -> None:
    """Base: pinv of the mean covariance; new: 64 nearest views and 16 text copies."""
    gda = built("gda", {"precision": "pinv"}, task, clip64)
    test = task.load_unseen()[1].features[:, 0]
    x, y = views_of(task, 1)
    d, k = x.shape[1], 36  # fewer views than 64: all of them
    assert len(x) == k
    means = np.stack([x[y == c].mean(0) for c in range(4)])
    mean_covariance = np.mean([np.cov(x[y == c], rowvar=False) for c in range(4)], axis=0)
    base = by_hand(means, np.linalg.pinv(mean_covariance, rcond=1e-13), test.numpy())
    text = task.text_features[4:].numpy()
    new_means = np.stack([np.concatenate([x, np.tile(t, (16, 1))]).mean(0) for t in text])
    precisions = []
    for t in text:
        s = (x - t).T @ (x - t) / (k - 1)
        precisions.append(d * np.linalg.pinv((k - 1) * s + np.trace(s) * np.eye(d)))
    new = by_hand(new_means, np.mean(precisions, axis=0), test.numpy())
    actual = terms(gda, task, test)[1]
    assert min(np.abs(centered(scores)).max() for scores in (base, new)) > 0.1
    np.testing.assert_allclose(actual[:, :4], centered(base), atol=1e-8)
    np.testing.assert_allclose(actual[:, 4:], centered(new), atol=1e-8)


def test_gda_zero_shot_keeps_logits_of_new_classes(task: Task, clip64: FrozenCLIP) -> None:
    """Their terms are 0, as are the mean terms of the seen classes."""
    gda = built("gda", {"new_classes": "zero_shot"}, task, clip64)
    actual = terms(gda, task, task.features[0, :, 0])
    assert bool((actual[:, :, 4:] == 0).all()) and bool((actual[:, :, :4] != 0).all())
    torch.testing.assert_close(actual[:, :, :4].mean(2), torch.zeros_like(actual[:, :, 0]))


def test_gda_with_one_feature_per_class_uses_the_nearest_mean(clip64: FrozenCLIP) -> None:
    """Without scatter the terms are d (mu^T x - |mu|^2 / 2)."""
    task = final_task(clip64, build_features(clip64, views=0), SEEDS, shots=1)
    for shrinkage in (None, 0.5):
        gda = built("gda", {"shrinkage": shrinkage}, task, clip64)
        x = task.load_unseen()[0].features[:, 0]
        means = task.features[0, :, 0]
        expected = -16 * torch.cdist(x, means).square() / 2
        actual = terms(gda, task, x)[0, :, :4]
        np.testing.assert_allclose(centered(actual), centered(expected), atol=1e-9)


def test_gda_in_single_precision_is_close_to_double(clip: FrozenCLIP, clip64: FrozenCLIP) -> None:
    """The closed form is computed in double precision; logits agree to 1e-3."""
    actual = []
    for backbone, dtype in ((clip, torch.float32), (clip64, torch.float64)):
        task = final_task(backbone, build_features(clip), SEEDS, shots=3)
        gda = built("gda", {"shrinkage": 1e-4}, task, backbone)
        x = torch.tensor(build_features(clip).test, dtype=dtype)
        actual.append(terms(gda, task, x).double())
    assert float(actual[1].abs().max()) > 10
    torch.testing.assert_close(actual[0], actual[1], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f"])
@pytest.mark.parametrize("weight", [None, 1.0, 0.25])
def test_tip_adapter_adds_cache_logits_to_zero_shot(
    name: str, weight: float | None, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Keys are normalized means over views; each synthetic feature is one key."""
    task = selection_task(clip64, features, SEEDS, shots=3)
    tip = built(name, {}, task, clip64, weight)
    actual = None if weight is None else tip.stack.state["cache.keys"][:, :6].detach().numpy()
    x = task.load_unseen()[0].features[:, 0]
    result = tip.logits(x, {"alpha": 2.0, "beta": 3.0})
    for r in range(2):
        keys, labels = unit(task.features[r].mean(1).numpy()), task.labels[r].tolist()
        if actual is not None:
            keys = np.concatenate([actual[r], keys])
            labels = [*task.synthetic_ids[r].repeat_interleave(3).tolist(), *labels]
        cached = 2 * np.exp(-3 * (1 - x.numpy() @ keys.T)) @ np.eye(4)[labels]
        zero_shot = (task.logit_scale * x @ task.text_features.T).numpy()
        np.testing.assert_allclose(result[r].numpy(), zero_shot + cached, atol=1e-10)


def test_precision_of_gda_has_no_effect_with_shrinkage() -> None:
    """A factor over it is refused with the reason."""
    assert GDAConfig().explain_unused("finetuner.precision") is None
    reason = GDAConfig(shrinkage=0.1).explain_unused("finetuner.precision")
    assert reason == "finetuner gda uses shrinkage in place of precision"
