"""Selection: its images, its choice, and its flags."""

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
from tests.ship.trial.cases import SETTINGS, VAE, config

# The trial under each rule that looks at nothing held back. What a fine-tuner does with its task
# is the same under each, so only one, which is trained and has choices, is tried under all.
HONEST = [(name, "pseudo_new") for name in FINETUNERS] + [
    ("tip_adapter_f", rule) for rule in ("base_val", "few_val", "none")
]
SEEDS = [0, 1, 2]


def chosen_epoch(
    metrics_by_epoch: list[EpochMetrics], metric: str, seed: int, tolerance: float | None
) -> int:
    """Return the last epoch within the tolerance of the best, or the first best one."""
    evaluated = [m for m in metrics_by_epoch if m.stage == "selection" and metric in m.per_seed]
    values = [m.per_seed[metric][seed] for m in evaluated]
    if tolerance is None:
        return evaluated[int(np.argmax(values))].epoch
    return max(
        m.epoch for m, v in zip(evaluated, values, strict=True) if v >= max(values) - TOLERANCE
    )


@pytest.mark.parametrize(("metric", "changes"), SETTINGS["chosen_by"], ids=str)
def test_each_seed_is_tested_at_its_chosen_epoch(
    clip: FrozenCLIP, features: FeatureSet, changes: dict[str, Any], metric: str
) -> None:
    """Selected by the objective if there is one; epoch 0 is a candidate."""
    setting = config(**{"eval_every": 1, **changes})
    epochs = list(run_trial(setting, SEEDS, features, clip))
    tolerance = None if setting.selection == "test" else TOLERANCE
    expected = [chosen_epoch(epochs, metric, place, tolerance) for place in range(len(SEEDS))]
    assert list(epochs[-1].per_seed["selection_epoch"]) == expected
    assert next(m.epoch for m in epochs if m.stage == "selection") == 0


@pytest.mark.parametrize("name", ["coop", "kgcoop", "clip_adapter"])
def test_retraining_schedule_ends_at_the_chosen_epoch(clip64: FrozenCLIP, name: str) -> None:
    """It equals a shorter training without selection."""
    features = build_features(clip64)
    settings = {**FAST[name], "name": name, "epochs": 6, "lr": 1.0}
    settings.pop("tune_on_validation", None)  # without selection nothing is tried at inference
    setting = config(finetuner=settings, generator="none", eval_every=1)
    results = list(run_trial(setting, SEEDS, features, clip64, dtype=torch.float64))
    tested = results[-1].per_seed
    epochs = [int(epoch) for epoch in tested["selection_epoch"]]
    assert len(set(epochs)) > 1, "the seeds must differ for this test to mean anything"
    for place, (seed, n_epochs) in enumerate(zip(SEEDS, epochs, strict=True)):
        shorter = {**settings, "epochs": n_epochs}
        setting = config(finetuner=shorter, generator="none", selection="none")
        alone = list(run_trial(setting, [seed], features, clip64, dtype=torch.float64))
        for metric in ("base", "new", "harmonic_mean"):
            assert tested[metric][place] == pytest.approx(alone[-1].per_seed[metric][0])
        losses = [m.per_seed["loss"][place] for m in results if m.stage == "final"]
        if n_epochs:
            last = [m.per_seed["loss"][0] for m in alone if m.stage == "final"][-1]
            assert losses[-1] == pytest.approx(last, rel=1e-9)


@pytest.mark.parametrize(("shots", "most"), [(1, 1), (2, 2), (16, 4), (None, 4)])
def test_few_val_uses_the_same_images_for_each_seed(
    clip: FrozenCLIP, features: FeatureSet, shots: int | None, most: int
) -> None:
    """At most min(4, shots) per base class."""
    rich = replace(
        features,
        val=np.concatenate([features.val] * 3),
        val_labels=np.concatenate([features.val_labels] * 3),
    )
    setting = config(selection="few_val", shots=shots)
    looked = []
    for seeds in ([0], [7, 1]):
        eval_set = build_protocol(setting, seeds, rich, {}, clip).selection
        assert eval_set is not None
        counts = np.bincount(eval_set.images.labels.numpy(), minlength=8)
        there = np.bincount(rich.val_labels, minlength=8)
        assert counts.tolist() == [min(most, n) for n in there[:4]] + [0] * 4
        looked.append(eval_set.images.features)
    assert torch.equal(*looked)


def test_selection_none_tests_the_last_epoch(clip: FrozenCLIP, features: FeatureSet) -> None:
    """No selection metrics and no flags are reported."""
    tip = {"name": "tip_adapter_f", "epochs": 3, "alpha": 2.5}
    last = list(run_trial(config(selection="none", finetuner=tip), SEEDS, features, clip))[-1]
    reported = {k: v for k, v in last.per_seed.items() if "selection" in k or "edge" in k}
    assert reported == {
        "selection_epoch": (3.0,) * 3,
        "selection_alpha": (2.5,) * 3,
        "selection_beta": (1.0,) * 3,
    }
    assert "flag/last_epoch" not in last.per_seed


def test_test_selections_report_the_selected_value(clip: FrozenCLIP, features: FeatureSet) -> None:
    """Selections test and authors use the reported images."""
    for selection in ("test", "authors"):
        epochs = list(run_trial(config(selection=selection), SEEDS, features, clip))
        last = epochs[-1].per_seed
        assert last["selection_harmonic_mean"] == last["harmonic_mean"]
        looked = [m.per_seed for m in epochs if m.stage == "selection" and "new" in m.per_seed]
        best = np.max([m["harmonic_mean"] for m in looked], axis=0)
        assert last["harmonic_mean"] == tuple(best)


def test_selection_authors_compares_ages_of_one_generator(
    clip: FrozenCLIP, features: FeatureSet
) -> None:
    """A fine-tuner is trained to its end for each age."""
    generator = {**VAE, "epochs": 10}
    setting = config(selection="authors", generator=generator, eval_every=1)
    epochs = list(run_trial(setting, SEEDS, features, clip))
    stages = "".join(
        {"selection_generator": "g", "selection": "s"}.get(m.stage, "t") for m in epochs
    )
    assert stages == ("gg" + "ssss") * 5 + "t"
    looked = [m.epoch for m in epochs if m.stage == "selection" and "base" in m.per_seed]
    assert looked == [4, 8, 12, 16, 20]
    values = [
        m.per_seed["harmonic_mean"] for m in epochs if m.epoch in looked and m.stage == "selection"
    ]
    ages = [2 * (1 + int(np.argmax([v[place] for v in values]))) for place in range(len(SEEDS))]
    last = epochs[-1].per_seed
    assert list(last["selection_age"]) == ages and "selection_epoch" not in last
    assert list(last["flag/last_epoch"]) == [float(age == 10) for age in ages]
    alone = list(run_trial(config(selection="test", generator=generator), SEEDS, features, clip))
    trained = [m.per_seed for m in alone if m.stage == "selection_generator"]
    assert trained == [m.per_seed for m in epochs if m.stage == "selection_generator"]


def test_flags_of_an_early_stopped_seed_equal_its_solo_run(clip64: FrozenCLIP) -> None:
    """Other seeds reach later ages; of equal ages the first is chosen."""
    generator, probe = {**SETTINGS["patient"], "epochs": 20}, {**FAST["linear_probe"], "lr": 0.05}
    setting = config(
        selection="authors", generator=generator, finetuner={"name": "linear_probe", **probe}
    )
    features = build_features(clip64)
    fused, *alone = (
        list(run_trial(setting, seeds, features, clip64, dtype=torch.float64))[-1].per_seed
        for seeds in ([3, 6], [3], [6])
    )
    each = [metrics["flag/last_epoch"][0] for metrics in alone]
    assert list(fused["flag/last_epoch"]) == each
    assert list(fused["selection_age"]) == [metrics["selection_age"][0] for metrics in alone]


@pytest.mark.parametrize("generator", ["none", "gaussian_text"])
def test_untrained_generator_has_one_age(
    clip: FrozenCLIP, features: FeatureSet, generator: str
) -> None:
    """Selection authors then reports the test result of the last epoch."""
    reference, plain = (
        list(run_trial(config(selection=rule, generator=generator), SEEDS, features, clip))
        for rule in ("authors", "none")
    )
    assert [m.stage for m in reference].count("selection") == 4
    assert reference[-1].per_seed["new"] == plain[-1].per_seed["new"]


def test_choice_at_the_grid_edge_raises_a_flag() -> None:
    """The largest and the smallest value, except for 0; and the last epoch."""
    choices = [{"alpha": a, "beta": b} for a in (0.0, 1.0, 3.0) for b in (2.0, 5.0, 9.0)]
    best = SelectedCheckpoint(5, "base", None)
    best.tensors["peak"] = torch.tensor([0, 1, 2, 3, 4])
    places = [
        choices.index({"alpha": a, "beta": b}) for a, b in ((0, 5), (1, 5), (3, 5), (1, 2), (1, 9))
    ]
    best.tensors["choice"] = torch.tensor(places)
    result = best.compute_flags(choices, last=4)
    assert result["flag/last_epoch"].tolist() == [0, 0, 0, 0, 1]
    assert result["flag/grid_edge"].tolist() == [0, 0, 1, 1, 1]
    assert best.compute_flags([{"alpha": 1.0}], last=0) == {}
    ratios = [{"ratio": r} for r in (0.2, 0.0, 1.0)]
    best.tensors["choice"] = torch.tensor([0, 1, 2, 0, 1])
    assert best.compute_flags(ratios, last=0)["flag/grid_edge"].tolist() == [0] * 5


def updated(
    best: SelectedCheckpoint, values: Sequence[Sequence[float]], first: int = 0
) -> SelectedCheckpoint:
    """Evaluate epochs with these values, one list per epoch and one value per seed."""
    for epoch, row in enumerate(values, first):
        value = torch.tensor(row)
        best.update(epoch, torch.zeros(len(row), dtype=torch.long), {"base": value}, {"w": value})
    return best


def test_last_epoch_within_the_tolerance_is_chosen() -> None:
    """Wherever the best epoch is."""
    values = [[60.0, 50.0, 70.0], [59.0, 49.5, 69.5], [58.5, 52.0, 68.9], [58.9, 50.9, 69.0]]
    chosen = updated(SelectedCheckpoint(3, "base", 1.0), values)
    assert chosen.epoch.tolist() == [1, 2, 3]
    assert chosen.metrics["base"].tolist() == chosen.state["w"].tolist() == [59.0, 52.0, 69.0]
    assert updated(SelectedCheckpoint(3, "base", None), values).epoch.tolist() == [0, 2, 0]
    # a later epoch that is nearly as good as the best one does not call for longer training
    assert chosen.compute_flags([{}], last=2)["flag/last_epoch"].tolist() == [0, 1, 0]


EPOCHS = [[50.0, 90.0, 60.0, 60.0], [60.0, 80.0, 60.0, 50.0], [70.0, 90.0, 50.0, 60.0]]


def test_untrained_and_saturated_flags() -> None:
    """Epoch 0 was chosen; at least half of the epochs share the best value."""
    best = updated(SelectedCheckpoint(4, "base", None), EPOCHS)
    flags = best.compute_flags([{}], last=2)
    assert flags["flag/untrained"].tolist() == [0, 1, 1, 1]
    assert flags["flag/saturated"].tolist() == [0, 1, 1, 1]
    flags = updated(best, [[70.0, 80.0, 70.0, 50.0], [60.0, 80.0, 60.0, 60.0]], 3).compute_flags(
        [{}], 4
    )
    assert flags["flag/untrained"].tolist() == [0, 1, 0, 1]
    assert flags["flag/saturated"].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(("lr", "raised"), [(1e-12, 1.0), (0.5, 0.0)])
def test_trial_reports_untrained_and_saturated_flags(
    clip: FrozenCLIP, features: FeatureSet, lr: float, raised: float
) -> None:
    """A learning rate that changes no prediction raises both."""
    coop = {"name": "coop", "epochs": 4, "lr": lr, "batch_size": 5}
    setting = config(finetuner=coop, selection="test", eval_every=1)
    last = list(run_trial(setting, SEEDS, features, clip))[-1].per_seed
    assert last["flag/untrained"] == last["flag/saturated"] == (raised,) * 3
    assert [epoch == 0 for epoch in last["selection_epoch"]] == [bool(raised)] * 3


def noisy(features: FeatureSet, rng: np.random.Generator) -> FeatureSet:
    """Replace test images, and other images of new classes, by noise."""

    def replaced(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        noise = rng.normal(size=images.shape).astype(images.dtype)
        noise /= np.linalg.norm(noise, axis=-1, keepdims=True)
        return np.where(rows.reshape(-1, *[1] * (images.ndim - 1)), noise, images)

    return replace(
        features,
        train=replaced(features.train, features.train_labels >= 4),
        val=replaced(features.val, features.val_labels >= 4),
        test=replaced(features.test, np.ones(len(features.test), bool)),
    )


@pytest.mark.parametrize(
    ("finetuner", "selection"), mark_slow_cases(HONEST, [("coop", "pseudo_new"), *HONEST[-3:]])
)
def test_held_out_images_do_not_affect_selection(
    clip: FrozenCLIP, features: FeatureSet, finetuner: str, selection: str
) -> None:
    """With noise as test images and new classes, all losses and choices are equal."""
    short = {"name": finetuner, **FAST.get(finetuner, {})}
    setting = config(finetuner=short, selection=selection, eval_every=1)
    first = list(run_trial(setting, [0, 3], features, clip))
    second = list(run_trial(setting, [0, 3], noisy(features, np.random.default_rng(0)), clip))
    assert first[:-1] == second[:-1]
    halves = ("base", "new", "harmonic_mean")
    of_test = {*halves, *(f"joint_{name}" for name in (*halves, "accuracy"))}
    of_test |= {"auroc", "openworld_auc", "ece_base", "ece_new"}
    for name, values in first[-1].per_seed.items():
        judged = name.startswith(("quality/", "flag/diversity", "flag/mean_gap"))
        if name not in of_test and not judged:
            assert second[-1].per_seed[name] == values, name
    assert second[-1].per_seed["auroc"] != first[-1].per_seed["auroc"]


@pytest.mark.parametrize("selection", ["test", "authors"])
def test_leaking_selections_change_with_test_images(
    clip: FrozenCLIP, features: FeatureSet, selection: str
) -> None:
    """The test above can fail."""
    setting = config(selection=selection, eval_every=1)
    first = list(run_trial(setting, [0, 3], features, clip))
    second = list(run_trial(setting, [0, 3], noisy(features, np.random.default_rng(0)), clip))
    assert first[:-1] != second[:-1]
