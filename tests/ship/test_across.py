"""Cross-dataset transfer: classes of source and targets, and data of selection."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ship.clip import FrozenCLIP, encode_classes
from ship.datasets import load_dataset
from ship.features import extract_features
from ship.protocols import Protocol, build_protocol
from ship.subsets import FeatureSet
from ship.trial.run import run_trial
from ship.trial_config import EpochMetrics, TrialConfig
from tests.ship.conftest import WORDS
from tests.ship.trial.cases import COOP


@pytest.fixture
def targets(features: FeatureSet) -> dict[str, FeatureSet]:
    """Two targets with test images only; "wolf" is in both, "dog" and "bee" in the source."""
    named = {"pets": ("wolf", "dog", "bee"), "farm": ("cow", "wolf")}
    return {
        name: replace(
            features,
            dataset=name,
            class_names=names,
            template="an image of a {}.",
            train=features.train[:0],
            train_labels=features.train_labels[:0],
            val=features.val[:0],
            val_labels=features.val_labels[:0],
            test=features.test[: 5 * len(names)],
            test_labels=np.repeat(np.arange(len(names)), 5),
        )
        for name, names in named.items()
    }


def config(**keys: Any) -> TrialConfig:
    """A short cross-dataset trial."""
    base = {"protocol": "cross_dataset", "targets": ["pets", "farm"], "shots": 2, "eval_every": 2}
    return TrialConfig(**{**base, "generator": "gaussian_base", "finetuner": COOP, **keys})


class Across:
    """Trials across datasets."""

    def __init__(self, clip: FrozenCLIP, features: FeatureSet) -> None:
        self.clip, self.features = clip, features

    def plan(self, targets: dict[str, FeatureSet], **keys: Any) -> Protocol:
        """The protocol of such a trial."""
        setting = config(**keys)
        return build_protocol(setting, [0, 1], self.features, targets, self.clip)

    def run(self, feature_sets: dict[str, FeatureSet], **keys: Any) -> list[EpochMetrics]:
        """All of its metrics."""
        return list(run_trial(config(**keys), [0, 1], self.features, self.clip, feature_sets))


@pytest.fixture
def across(clip: FrozenCLIP, features: FeatureSet) -> Across:
    """Trials on the tiny dataset."""
    return Across(clip, features)


Targets = dict[str, FeatureSet]


@pytest.mark.parametrize("more", [(), ("art of the {}.", "a bad photo of the {}.")])
def test_source_classes_are_seen_and_other_target_classes_unseen(
    across: Across, targets: Targets, more: tuple[str, ...]
) -> None:
    """Shared names are one class; each dataset uses its own templates."""
    actual = across.plan(targets, templates=("dataset", *more))
    assert actual.generator_task is not None
    assert actual.generator_task.class_names == (*WORDS, "wolf", "cow")
    pets, farm = actual.tested_models
    assert pets[0].task.class_names == (*WORDS, "wolf")
    assert farm[0].task.class_names == (*WORDS, "cow", "wolf")
    assert farm[0].task.generator_ids is not None and farm[0].task.generator_ids.tolist() == [
        *range(8),
        9,
        8,
    ]
    source = actual.generator_task.features
    assert all(f[0].task.features.data_ptr() == source.data_ptr() for f in actual.tested_models)
    dog, bee = WORDS.index("dog"), WORDS.index("bee")
    assert pets[0].images.labels.tolist() == [8] * 5 + [dog] * 5 + [bee] * 5
    assert pets[0].competing is not None
    assert pets[0].competing.nonzero()[:, 0].tolist() == sorted([8, dog, bee])
    assert all(bool(f[0].task.seen[:, :8].all()) for f in actual.tested_models)
    for final, places, names in ((farm, [8, 9], ("cow", "wolf")), (pets, [dog], ("dog",))):
        written = [
            [template.format(name) for name in names] for template in ("an image of a {}.", *more)
        ]
        mean = torch.stack(
            [across.clip.encode_texts(source_prompts) for source_prompts in written]
        ).mean(0)
        expected = torch.nn.functional.normalize(mean, dim=-1)
        torch.testing.assert_close(final[0].task.text_features[places], expected)
    source_prompts = [[template.format(WORDS[0]) for template in ("a photo of a {}.", *more)]]
    expected = encode_classes(across.clip, source_prompts)
    torch.testing.assert_close(actual.generator_task.text_features[:1], expected)


def test_equal_names_within_a_dataset_are_separate_classes(
    across: Across, targets: Targets
) -> None:
    """ImageNet has two such pairs, which match the source's one by one."""
    twice = ("dog", "Bee", "wolf", "wolf", "BEE")
    pets = replace(
        targets["pets"], class_names=twice, test_labels=np.arange(5), test=across.features.test[:5]
    )
    final = across.plan({"pets": pets}).tested_models[0]
    dog, bee = WORDS.index("dog"), WORDS.index("bee")
    assert final[0].images.labels.tolist() == [dog, bee, 8, 9, 10]
    assert final[0].task.class_names[8:] == ("wolf", "wolf", "BEE")


@pytest.mark.parametrize(
    ("ours", "theirs"), [("dog 2", "dog2"), ("lady\u2019s slipper", "Lady's slipper")]
)
def test_names_with_equal_tokens_are_one_class(
    across: Across, targets: Targets, ours: str, theirs: str
) -> None:
    """A quotation mark or a space does not make another class."""
    across.features = replace(across.features, class_names=(ours, *WORDS[1:]))
    farm = replace(targets["farm"], class_names=(theirs, "wolf"))
    task = across.plan({"farm": farm}).tested_models[0][0].task
    assert task.class_names[8:] == ("wolf",)


def test_target_with_only_source_classes_gets_no_synthetic_features(
    across: Across, targets: Targets
) -> None:
    """Its trial runs."""
    targets_of_source = {"farm": replace(targets["farm"], class_names=("dog", "bee"))}
    assert across.plan(targets_of_source).tested_models[0][0].task.synthetic_ids.shape == (2, 0)
    actual = across.run(targets_of_source, targets=["farm"])[-1].per_seed
    assert "accuracy/farm" in actual and "quality/frechet" not in actual


def test_quality_averages_over_targets_with_unseen_classes(
    across: Across, targets: Targets
) -> None:
    """A target whose classes are all seen does not count."""
    seen = replace(targets["farm"], class_names=("dog", "bee"))
    alone = across.run({"pets": targets["pets"]}, targets=["pets"])[-1].per_seed
    both = across.run({"pets": targets["pets"], "farm": seen})[-1].per_seed
    for name in ("quality/frechet", "quality/diversity", "flag/mean_gap"):
        assert both[name] == alone[name]


def test_base_val_trains_with_the_targets_class_names(across: Across, targets: Targets) -> None:
    """Selection and final training have the same task; images are the source's."""
    actual = across.plan(targets, selection="base_val")
    assert actual.selection is not None
    assert actual.selection.task.class_names[8:] == ("wolf", "cow")
    assert int(actual.selection.images.labels.max()) < 8
    assert "selection_base" in across.run(targets, selection="base_val")[-1].per_seed


def test_target_images_do_not_affect_selection(across: Across, targets: Targets) -> None:
    """Only test metrics change with them; each target counts once in the average."""
    turned = {name: replace(t, test=-t.test) for name, t in targets.items()}
    first, second = across.run(targets), across.run(turned)
    assert first[:-1] == second[:-1] and first[-1] != second[-1]
    actual = first[-1].per_seed
    assert {"source", "selection_harmonic_mean", "quality/cosine_to_mean"} <= set(actual)
    for seed in range(2):
        each = [actual[f"accuracy/{name}"][seed] for name in ("pets", "farm")]
        assert actual["accuracy"][seed] == pytest.approx(sum(each) / 2)


def zero_shot(clip: FrozenCLIP, target: FeatureSet) -> float:
    """Accuracy of a target's own zero-shot classifier."""
    text = clip.encode_texts([target.template.format(name) for name in target.class_names])
    right = (torch.tensor(target.test) @ text.T).argmax(1) == torch.tensor(target.test_labels)
    return 100 * right.double().mean().item()


def test_zero_shot_accuracy_of_targets_equals_their_classifiers(
    across: Across, targets: Targets
) -> None:
    """The fine-tuner zero_shot uses each target's text features."""
    actual = across.run(targets, generator="none", finetuner="zero_shot")[-1].per_seed
    for name, target in targets.items():
        assert actual[f"accuracy/{name}"][0] == pytest.approx(zero_shot(across.clip, target))


def test_cross_dataset_without_targets_or_with_test_selection_is_rejected(
    across: Across, targets: Targets
) -> None:
    """Both raise ValueError."""
    with pytest.raises(ValueError, match="must not use test images"):
        across.run(targets, selection="test")
    with pytest.raises(ValueError, match="requires targets"):
        across.run({})


@pytest.mark.data
def test_emoji_transfers_to_caltech101(tmp_path: Path) -> None:
    """Zero-shot accuracy is the target's, and CoOp improves it."""
    root = os.environ.get("SHIP_DATA_ROOT")
    if not root or not (Path(root) / "caltech-101").is_dir():
        pytest.skip("SHIP_DATA_ROOT names no folder with caltech-101")
    clip = FrozenCLIP.load("pocket")
    source = extract_features(clip, load_dataset("emoji"), 0, tmp_path)
    photographs = load_dataset("caltech101", Path(root))
    target = extract_features(clip, photographs, 0, tmp_path, splits=("test",))
    assert len(target.train) == 0 and len(target.test) == len(target.test_labels) == 2465
    setting = config(targets=["caltech101"], max_classes=60, augmentations=0, finetuner="zero_shot")
    actual = list(run_trial(setting, [0], source, clip, {"caltech101": target}))[-1].per_seed
    assert actual["accuracy/caltech101"][0] == pytest.approx(zero_shot(clip, target))
    assert actual["quality/recognized_by_text"][0] > 50
    trained = config(targets=["caltech101"], max_classes=60, augmentations=0, generator="none")
    actual = list(run_trial(trained, [0, 1], source, clip, {"caltech101": target}))[-1].per_seed
    assert all(30 < value < 70 for value in actual["accuracy/caltech101"])
