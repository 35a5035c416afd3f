"""Zero-shot CLIP under each choice of templates, against open_clip's own encode_text."""

import dataclasses

import pytest
import torch

from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.finetuners.templates import SUBSET
from ship.finetuners.zero_shot import ZeroShot, ZeroShotConfig
from ship.tasks.task import Task
from tests.ship.conftest import WORDS, final_task

SEEDS = [0, 4]


@pytest.fixture
def task(clip64: FrozenCLIP, features: FeatureSet) -> Task:
    """A task whose dataset has a template of its own."""
    made = final_task(clip64, features, SEEDS)
    texts = [f"a photo of a {name}, a type of toy." for name in WORDS]
    return dataclasses.replace(made, text_features=clip64.encode_texts(texts))


def logits(templates: str, task: Task, clip: FrozenCLIP, features: FeatureSet) -> torch.Tensor:
    """Of the test pictures."""
    config = ZeroShotConfig.model_validate({"templates": templates})
    zero_shot = ZeroShot(config, task, None, clip, SEEDS)
    return zero_shot.logits(torch.tensor(features.test, dtype=torch.float64), {})


def by_open_clip(template: str, clip: FrozenCLIP) -> torch.Tensor:
    """Unit-norm text features of one template."""
    ids = clip.tokenizer([template.format(name) for name in WORDS])
    with torch.no_grad():
        text = clip._model.encode_text(ids)
    return text / text.norm(dim=1, keepdim=True)


def expected(text: torch.Tensor, clip: FrozenCLIP, features: FeatureSet) -> torch.Tensor:
    """logit_scale * cosine for both replicas."""
    x = torch.tensor(features.test, dtype=torch.float64)
    return (clip.logit_scale * x @ text.T).expand(2, -1, -1)


def test_dataset_is_the_tasks_own_and_the_default(
    task: Task, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """The dataset's template, as the task brings it."""
    made = logits("dataset", task, clip64, features)
    torch.testing.assert_close(made, expected(task.text_features, clip64, features))
    assert ZeroShotConfig().templates == "dataset"


def test_single_is_one_template_for_all_datasets(
    task: Task, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """ "a photo of a {}.", whatever the dataset's own is."""
    text = by_open_clip("a photo of a {}.", clip64)
    made = logits("single", task, clip64, features)
    torch.testing.assert_close(made, expected(text, clip64, features), atol=1e-9, rtol=0)


def test_ensemble_is_the_normalised_mean_of_unit_norm_features(
    task: Task, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Seven templates, each normalised before the mean and the mean once more."""
    assert len(set(SUBSET)) == 7 and all(template.count("{}") == 1 for template in SUBSET)
    mean = sum(by_open_clip(template, clip64) for template in SUBSET) / 7
    text = mean / mean.norm(dim=1, keepdim=True)
    made = logits("ensemble", task, clip64, features)
    torch.testing.assert_close(made, expected(text, clip64, features), atol=1e-9, rtol=0)
