"""Selection: the images it evaluates, the epoch it selects, and the flags it raises."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP
from ship.finetuners import FINETUNERS
from ship.protocols import build_protocol
from ship.subsets import FeatureSet
from ship.trial.run import run_trial
from ship.trial.selection import TOLERANCE, SelectedCheckpoint
from ship.trial_config import EpochMetrics
from tests.case_files import mark_slow_cases
from tests.ship.conftest import build_features
from tests.ship.finetuners.cases import FAST
from tests.ship.trial.cases import TRIALS, VAE, make_config

# Selections that evaluate no test images and no images of new classes. Fine-tuners do not depend on
# the selection, so that only one of them, which has epochs and inference options, runs under all.
HONEST = [(name, "pseudo_new") for name in FINETUNERS] + [
    ("tip_adapter_f", rule) for rule in ("base_val", "few_val", "none")
]
SEEDS = [0, 1, 2]


def select_epoch(
    metrics_by_epoch: list[EpochMetrics], metric: str, seed_index: int, tolerance: float | None
) -> int:
    """Return the last epoch within the tolerance of the best one.

    If the tolerance is None, return the first epoch with the best value.
    """
    evaluated = [m for m in metrics_by_epoch if m.stage == "selection" and metric in m.per_seed]
    values = [m.per_seed[metric][seed_index] for m in evaluated]
    if tolerance is None:
        return evaluated[int(np.argmax(values))].epoch
    smallest = max(values) - TOLERANCE
    return max(m.epoch for m, value in zip(evaluated, values, strict=True) if value >= smallest)


@pytest.mark.parametrize(("metric", "changes"), TRIALS["selection_metric"], ids=str)
def test_each_seed_is_tested_at_its_selected_epoch(
    clip: FrozenCLIP, features: FeatureSet, changes: dict[str, Any], metric: str
) -> None:
    """The objective selects the epoch if the study has one, and epoch 0 is a candidate."""
    config = make_config(**{"eval_every": 1, **changes})
    epochs = list(run_trial(config, SEEDS, features, clip))
    tolerance = None if config.selection == "test" else TOLERANCE
    expected = [select_epoch(epochs, metric, index, tolerance) for index in range(len(SEEDS))]
    assert list(epochs[-1].per_seed["selection_epoch"]) == expected
    assert next(m.epoch for m in epochs if m.stage == "selection") == 0


@pytest.mark.parametrize("name", ["coop", "kgcoop", "clip_adapter"])
def test_retraining_schedule_ends_at_the_selected_epoch(clip64: FrozenCLIP, name: str) -> None:
    """Retraining equals a training of that many epochs without selection."""
    features = build_features(clip64)
    finetuner = {**FAST[name], "name": name, "epochs": 6, "lr": 1.0}
    finetuner.pop("tune_on_validation", None)  # selection `none` has no images to tune on
    config = make_config(finetuner=finetuner, generator="none", eval_every=1)
    results = list(run_trial(config, SEEDS, features, clip64, dtype=torch.float64))
    tested = results[-1].per_seed
    epochs = [int(epoch) for epoch in tested["selection_epoch"]]
    assert len(set(epochs)) > 1, "the seeds must differ for this test to mean anything"
    for index, (seed, n_epochs) in enumerate(zip(SEEDS, epochs, strict=True)):
        shorter = {**finetuner, "epochs": n_epochs}
        config = make_config(finetuner=shorter, generator="none", selection="none")
        solo = list(run_trial(config, [seed], features, clip64, dtype=torch.float64))
        for metric in ("base", "new", "harmonic_mean"):
            assert tested[metric][index] == pytest.approx(solo[-1].per_seed[metric][0])
        losses = [m.per_seed["loss"][index] for m in results if m.stage == "final"]
        if n_epochs:
            last = [m.per_seed["loss"][0] for m in solo if m.stage == "final"][-1]
            assert losses[-1] == pytest.approx(last, rel=1e-9)


@pytest.mark.parametrize(("shots", "limit"), [(1, 1), (2, 2), (16, 4), (None, 4)])
def test_few_val_uses_the_same_images_for_each_seed(
    clip: FrozenCLIP, features: FeatureSet, shots: int | None, limit: int
) -> None:
    """There are at most min(4, shots) images per base class."""
    more_images = replace(
        features,
        val=np.concatenate([features.val] * 3),
        val_labels=np.concatenate([features.val_labels] * 3),
    )
    config = make_config(selection="few_val", shots=shots)
    images = []
    for seeds in ([0], [7, 1]):
        eval_set = build_protocol(config, seeds, more_images, {}, clip).selection
        assert eval_set is not None
        counts = np.bincount(eval_set.images.labels.numpy(), minlength=8)
        available = np.bincount(more_images.val_labels, minlength=8)
        assert counts.tolist() == [min(limit, n) for n in available[:4]] + [0] * 4
        images.append(eval_set.images.features)
    assert torch.equal(*images)


def test_selection_none_tests_the_last_epoch(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Neither selection metrics nor flags are reported."""
    tip = {"name": "tip_adapter_f", "epochs": 3, "alpha": 2.5}
    last = list(run_trial(make_config(selection="none", finetuner=tip), SEEDS, features, clip))[-1]
    reported = {k: v for k, v in last.per_seed.items() if "selection" in k or "edge" in k}
    assert reported == {
        "selection_epoch": (3.0,) * 3,
        "selection_alpha": (2.5,) * 3,
        "selection_beta": (1.0,) * 3,
    }
    assert "flag/last_epoch" not in last.per_seed


def test_selection_by_test_images_reports_the_selected_value(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Selections `test` and `authors` evaluate the test images."""
    for selection in ("test", "authors"):
        epochs = list(run_trial(make_config(selection=selection), SEEDS, features, clip))
        last = epochs[-1].per_seed
        assert last["selection_harmonic_mean"] == last["harmonic_mean"]
        evaluated = [m.per_seed for m in epochs if m.stage == "selection" and "new" in m.per_seed]
        best = np.max([m["harmonic_mean"] for m in evaluated], axis=0)
        assert last["harmonic_mean"] == tuple(best)


def test_selection_authors_compares_ages_of_one_generator(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """An age is a number of generator epochs. A fine-tuner is trained to its end for each age."""
    generator = {**VAE, "epochs": 10}
    config = make_config(selection="authors", generator=generator, eval_every=1)
    epochs = list(run_trial(config, SEEDS, features, clip))
    stages = "".join(
        {"selection_generator": "g", "selection": "s"}.get(m.stage, "t") for m in epochs
    )
    assert stages == ("gg" + "ssss") * 5 + "t"
    evaluated = [m for m in epochs if m.stage == "selection" and "base" in m.per_seed]
    assert [m.epoch for m in evaluated] == [4, 8, 12, 16, 20]
    values = np.array([m.per_seed["harmonic_mean"] for m in evaluated])
    ages = [2 * (1 + int(index)) for index in values.argmax(axis=0)]
    last = epochs[-1].per_seed
    assert list(last["selection_age"]) == ages and "selection_epoch" not in last
    assert list(last["flag/last_epoch"]) == [float(age == 10) for age in ages]
    config = make_config(selection="test", generator=generator)
    uninterrupted = [
        m.per_seed
        for m in run_trial(config, SEEDS, features, clip)
        if m.stage == "selection_generator"
    ]
    assert uninterrupted == [m.per_seed for m in epochs if m.stage == "selection_generator"]


def test_flags_of_an_early_stopped_seed_equal_its_solo_run(clip64: FrozenCLIP) -> None:
    """Other seeds reach later ages. Among ages with equal values the first is selected."""
    generator = {**TRIALS["early_stopping"], "epochs": 20}
    finetuner = {"name": "linear_probe", **FAST["linear_probe"], "lr": 0.05}
    config = make_config(selection="authors", generator=generator, finetuner=finetuner)
    features = build_features(clip64)
    batched, *solo = (
        list(run_trial(config, seeds, features, clip64, dtype=torch.float64))[-1].per_seed
        for seeds in ([3, 6], [3], [6])
    )
    for name in ("flag/last_epoch", "selection_age"):
        assert list(batched[name]) == [metrics[name][0] for metrics in solo]


@pytest.mark.parametrize("generator", ["none", "gaussian_text"])
def test_untrained_generator_has_one_age(
    clip: FrozenCLIP, features: FeatureSet, generator: str
) -> None:
    """Selection `authors` then reports the test result of the last epoch."""
    by_authors, without_selection = (
        list(run_trial(make_config(selection=rule, generator=generator), SEEDS, features, clip))
        for rule in ("authors", "none")
    )
    assert [m.stage for m in by_authors].count("selection") == 4
    assert by_authors[-1].per_seed["new"] == without_selection[-1].per_seed["new"]


def test_choice_at_the_grid_edge_raises_a_flag() -> None:
    """The edges are the largest and the smallest value other than 0, and the last epoch."""
    choices = [{"alpha": a, "beta": b} for a in (0.0, 1.0, 3.0) for b in (2.0, 5.0, 9.0)]
    best = SelectedCheckpoint(5, "base", None)
    best.tensors["peak"] = torch.tensor([0, 1, 2, 3, 4])
    chosen = [{"alpha": a, "beta": b} for a, b in ((0, 5), (1, 5), (3, 5), (1, 2), (1, 9))]
    best.tensors["choice"] = torch.tensor([choices.index(choice) for choice in chosen])
    result = best.compute_flags(choices, last=4)
    assert result["flag/last_epoch"].tolist() == [0, 0, 0, 0, 1]
    assert result["flag/grid_edge"].tolist() == [0, 0, 1, 1, 1]
    assert best.compute_flags([{"alpha": 1.0}], last=0) == {}
    ratios = [{"ratio": r} for r in (0.2, 0.0, 1.0)]
    best.tensors["choice"] = torch.tensor([0, 1, 2, 0, 1])
    assert best.compute_flags(ratios, last=0)["flag/grid_edge"].tolist() == [0] * 5


def update_epochs(
    best: SelectedCheckpoint, values: Sequence[Sequence[float]], first: int = 0
) -> SelectedCheckpoint:
    """Update the checkpoint with the values of some epochs and return it.

    Args:
        best: The checkpoint to update.
        values: One list per epoch, with one value per seed.
        first: Number of the first epoch.
    """
    for epoch, values_per_seed in enumerate(values, first):
        value = torch.tensor(values_per_seed)
        choice = torch.zeros(len(value), dtype=torch.long)
        best.update(epoch, choice, {"base": value}, {"w": value})
    return best


def test_last_epoch_within_the_tolerance_is_selected() -> None:
    """The best epoch is the first, a middle one, or within the tolerance of later ones."""
    values = [[60.0, 50.0, 70.0], [59.0, 49.5, 69.5], [58.5, 52.0, 68.9], [58.9, 50.9, 69.0]]
    best = update_epochs(SelectedCheckpoint(3, "base", 1.0), values)
    assert best.epoch.tolist() == [1, 2, 3]
    assert best.metrics["base"].tolist() == best.state["w"].tolist() == [59.0, 52.0, 69.0]
    assert update_epochs(SelectedCheckpoint(3, "base", None), values).epoch.tolist() == [0, 2, 0]
    # the flag, which advises longer training, depends on the best epoch, not on the selected one
    assert best.compute_flags([{}], last=2)["flag/last_epoch"].tolist() == [0, 1, 0]


EPOCHS = [[50.0, 90.0, 60.0, 60.0], [60.0, 80.0, 60.0, 50.0], [70.0, 90.0, 50.0, 60.0]]


def test_untrained_and_saturated_flags() -> None:
    """Epoch 0 was selected, and at least half of the epochs have the best value, respectively."""
    best = update_epochs(SelectedCheckpoint(4, "base", None), EPOCHS)
    flags = best.compute_flags([{}], last=2)
    assert flags["flag/untrained"].tolist() == [0, 1, 1, 1]
    assert flags["flag/saturated"].tolist() == [0, 1, 1, 1]
    later_epochs = [[70.0, 80.0, 70.0, 50.0], [60.0, 80.0, 60.0, 60.0]]
    flags = update_epochs(best, later_epochs, first=3).compute_flags([{}], 4)
    assert flags["flag/untrained"].tolist() == [0, 1, 0, 1]
    assert flags["flag/saturated"].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(("lr", "raised"), [(1e-12, 1.0), (0.5, 0.0)])
def test_trial_reports_untrained_and_saturated_flags(
    clip: FrozenCLIP, features: FeatureSet, lr: float, raised: float
) -> None:
    """A learning rate too small to change a prediction raises both flags."""
    coop = {"name": "coop", "epochs": 4, "lr": lr, "batch_size": 5}
    config = make_config(finetuner=coop, selection="test", eval_every=1)
    last = list(run_trial(config, SEEDS, features, clip))[-1].per_seed
    assert last["flag/untrained"] == last["flag/saturated"] == (raised,) * 3
    assert [epoch == 0 for epoch in last["selection_epoch"]] == [bool(raised)] * 3


def replace_held_out_images(features: FeatureSet) -> FeatureSet:
    """Replace all test images, and the other images of new classes, by noise."""
    rng = np.random.default_rng(0)

    def insert_noise(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        noise = rng.normal(size=images.shape).astype(images.dtype)
        noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
        return np.where(rows.reshape(-1, *[1] * (images.ndim - 1)), noise, images)

    return replace(
        features,
        train=insert_noise(features.train, features.train_labels >= 4),
        val=insert_noise(features.val, features.val_labels >= 4),
        test=insert_noise(features.test, np.ones(len(features.test), bool)),
    )


@pytest.mark.parametrize(
    ("finetuner", "selection"), mark_slow_cases(HONEST, [("coop", "pseudo_new"), *HONEST[-3:]])
)
def test_held_out_images_do_not_affect_selection(
    clip: FrozenCLIP, features: FeatureSet, finetuner: str, selection: str
) -> None:
    """If noise replaces these images, all losses and choices are equal."""
    options = {"name": finetuner, **FAST.get(finetuner, {})}
    config = make_config(finetuner=options, selection=selection, eval_every=1)
    first = list(run_trial(config, [0, 3], features, clip))
    second = list(run_trial(config, [0, 3], replace_held_out_images(features), clip))
    assert first[:-1] == second[:-1]
    accuracies = ("base", "new", "harmonic_mean")
    test_metrics = {*accuracies, *(f"joint_{name}" for name in (*accuracies, "accuracy"))}
    test_metrics |= {"auroc", "openworld_auc", "ece_base", "ece_new"}
    for name, values in first[-1].per_seed.items():
        # the quality of synthetic features is measured against test images
        is_quality = name.startswith(("quality/", "flag/diversity", "flag/mean_gap"))
        if name not in test_metrics and not is_quality:
            assert second[-1].per_seed[name] == values, name
    assert second[-1].per_seed["auroc"] != first[-1].per_seed["auroc"]


@pytest.mark.parametrize("selection", ["test", "authors"])
def test_test_images_affect_selection_by_test_images(
    clip: FrozenCLIP, features: FeatureSet, selection: str
) -> None:
    """This is the counterpart of the test above, which shows that it can fail."""
    config = make_config(selection=selection, eval_every=1)
    first = list(run_trial(config, [0, 3], features, clip))
    second = list(run_trial(config, [0, 3], replace_held_out_images(features), clip))
    assert first[:-1] != second[:-1]
