"""GDA: equal to scikit-learn's LDA and to the paper's closed form, and its rule without data."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.finetuners.gda import GDA, GDAConfig, discriminant
from ship.finetuners.zero_shot import ZeroShot, ZeroShotConfig
from ship.generators.controls import GaussianText, GaussianTextConfig
from ship.synthesis import Synthesizer, SyntheticConfig
from ship.tasks.task import Task
from tests.ship.conftest import build_features, final_task

SEEDS = [0, 4]


@pytest.fixture(scope="module")
def task(clip64: FrozenCLIP) -> Task:
    """Four base classes with three pictures in three views, four new ones without."""
    return final_task(clip64, build_features(clip64), SEEDS, shots=3)


def synthesizer(task: Task, clip: FrozenCLIP, weight: float = 1.0) -> Synthesizer:
    """Noisy text features as synthetic ones, two a class."""
    generator = GaussianText(GaussianTextConfig(scale=0.1), task, clip, SEEDS)
    return Synthesizer(SyntheticConfig(per_class=2, weight=weight), generator, task, SEEDS)


def centred(scores: np.ndarray | Tensor) -> np.ndarray:
    """Scores (n, n_cls) without each picture's own constant."""
    scores = np.asarray(scores)
    return scores - scores.mean(1, keepdims=True)


def terms(gda: GDA, task: Task, x: Tensor) -> Tensor:
    """What the discriminant adds to the zero-shot logits at alpha 1, (replica, n, n_cls)."""
    return gda.logits(x, {"alpha": 1.0}) - task.zero_shot_logits(x)


@pytest.mark.parametrize("shrinkage", [0.1, 0.5, 1.0])
def test_equals_scikit_learn(task: Task, clip64: FrozenCLIP, shrinkage: float) -> None:
    """On every view of every picture, LDA's decision function up to a constant per picture."""
    gda = GDA(GDAConfig(shrinkage=shrinkage), task, None, clip64, SEEDS)
    x = task.unseen_features[0, :, 0]
    made = terms(gda, task, x)
    for r in range(len(SEEDS)):
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[0.25] * 4)
        lda.fit(task.features[r].flatten(0, 1).numpy(), task.labels[r].repeat_interleave(3).numpy())
        expected = centred(lda.decision_function(x.numpy()))
        assert np.abs(expected).max() > 1
        np.testing.assert_allclose(centred(made[r, :, :4]), expected, atol=1e-8)


def test_weights_are_repetitions(task: Task) -> None:
    """A row of weight 3 counts as three rows do, in classes of any size."""
    x, y = task.features[0, :-2, :1], task.labels[0, :-2]  # the last class has one picture
    times = torch.tensor([1, 3, 2, 1, 1, 1, 2, 2, 1, 3])
    weight, bias = discriminant(x, y, times.double(), 4, 0.3)
    repeated = x[:, 0].repeat_interleave(times, dim=0).numpy()
    labels = y.repeat_interleave(times).numpy()
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3).fit(repeated, labels)
    # pooled by rows as LDA does under the rows' own priors, which the classifier then leaves out
    expected = lda.decision_function(x[:, 0].numpy()) - np.log(lda.priors_)
    np.testing.assert_allclose(centred(x[:, 0] @ weight.T + bias), centred(expected), atol=1e-8)


def test_equals_the_papers_closed_form(clip64: FrozenCLIP) -> None:
    """Without a shrinkage, the precision is d ((N - 1) S + tr(S) I)^-1."""
    task = final_task(clip64, build_features(clip64, views=0), SEEDS, shots=3)
    gda = GDA(GDAConfig(), task, None, clip64, SEEDS)
    x, test = task.features[1, :, 0].numpy(), task.unseen_features[1, :, 0]
    means = np.stack([x[task.labels[1].numpy() == c].mean(0) for c in range(4)])
    residuals = x - means[task.labels[1].numpy()]
    n, d = x.shape
    cov = np.cov(residuals, rowvar=False)
    precision = d * np.linalg.inv((n - 1) * cov + np.trace(cov) * np.eye(d))
    w, b = means @ precision, -0.5 * np.einsum("cd,de,ce->c", means, precision, means)
    made = terms(gda, task, test)[1, :, :4]
    np.testing.assert_allclose(centred(made), centred(test.numpy() @ w.T + b), atol=1e-9)


@pytest.mark.parametrize("shrinkage", [None, 0.2])
def test_views_share_a_pictures_weight(task: Task, shrinkage: float | None) -> None:
    """A picture shown three times over counts as it does once."""
    x, y, w = task.features[0, :, :1], task.labels[0], torch.ones(12, dtype=torch.float64)
    once = discriminant(x, y, w, 8, shrinkage)
    thrice = discriminant(x.expand(-1, 3, -1), y, w, 8, shrinkage)
    torch.testing.assert_close(once, thrice)


def test_a_class_without_data_keeps_its_zero_shot_logit(task: Task, clip64: FrozenCLIP) -> None:
    """Its term is the mean of the other classes' terms, which is 0."""
    made = terms(GDA(GDAConfig(), task, None, clip64, SEEDS), task, task.features[0, :, 0])
    assert bool((made[:, :, 4:] == 0).all()) and bool((made[:, :, :4] != 0).all())
    torch.testing.assert_close(made[:, :, :4].mean(2), torch.zeros_like(made[:, :, 0]))


def test_alpha_0_is_zero_shot(task: Task, clip64: FrozenCLIP) -> None:
    """The discriminant ignored leaves CLIP's logits, and the grid has that choice."""
    gda = GDA(GDAConfig(alpha=0.5), task, None, clip64, SEEDS)
    zero_shot = ZeroShot(ZeroShotConfig(), task, None, clip64, SEEDS)
    x = task.features[0, :, 0]
    assert torch.equal(gda.logits(x, {"alpha": 0.0}), zero_shot.logits(x, {}))
    assert gda.choices[0] == {"alpha": 0.5} and {"alpha": 0.0} in gda.choices
    fixed = GDA(GDAConfig(alpha=0.5, search=False), task, None, clip64, SEEDS)
    assert fixed.choices == ({"alpha": 0.5},)


def test_synthetic_features_give_new_classes_a_mean(task: Task, clip64: FrozenCLIP) -> None:
    """Near a new class's text its own term is the largest; a weight moves the covariance."""
    x = task.text_features[4:]
    made = [
        terms(GDA(GDAConfig(), task, synthesizer(task, clip64, w), clip64, SEEDS), task, x)
        for w in (1.0, 0.1)
    ]
    assert bool((made[0].argmax(2) == torch.arange(4, 8)).all())
    assert bool((made[0] - made[1]).abs().max() > 1e-2)


def test_one_feature_a_class_leaves_the_nearest_mean(clip64: FrozenCLIP) -> None:
    """Where nothing scatters, the terms are d (mu^T x - |mu|^2 / 2), the nearest mean's."""
    task = final_task(clip64, build_features(clip64, views=0), SEEDS, shots=1)
    for shrinkage in (None, 0.5):
        gda = GDA(GDAConfig(shrinkage=shrinkage), task, None, clip64, SEEDS)
        x = task.unseen_features[0, :, 0]
        means = task.features[0, :, 0]
        expected = -16 * torch.cdist(x, means).square() / 2
        made = terms(gda, task, x)[0, :, :4]
        np.testing.assert_allclose(centred(made), centred(expected), atol=1e-9)


def test_single_precision_loses_little(clip: FrozenCLIP, clip64: FrozenCLIP) -> None:
    """The closed form is worked out in double: single precision's logits agree to 1e-3."""
    made = []
    for backbone, dtype in ((clip, torch.float32), (clip64, torch.float64)):
        task = final_task(backbone, build_features(clip), SEEDS, shots=3)
        gda = GDA(GDAConfig(shrinkage=1e-4), task, None, backbone, SEEDS)
        x = torch.tensor(build_features(clip).test, dtype=dtype)
        made.append(terms(gda, task, x).double())
    assert float(made[1].abs().max()) > 10
    torch.testing.assert_close(made[0], made[1], atol=1e-3, rtol=1e-4)
