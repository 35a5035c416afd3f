"""Zero-shot CLIP under each choice of templates, against open_clip's own encode_text."""

import dataclasses

import pytest
import torch

from ship.clip import FrozenCLIP
from ship.configs.finetuners import ZeroShotConfig
from ship.subsets import FeatureSet
from ship.templates import ENSEMBLE
from tests.ship.conftest import WORDS, final_task
from tests.ship.finetuners.cases import SEEDS, built

OWN = "a photo of a {}, a type of toy."


@pytest.mark.parametrize(
    ("templates", "sentences"),
    [
        (ZeroShotConfig().templates, (OWN,)),
        ("dataset", (OWN,)),
        ("single", ("a photo of a {}.",)),
        ("ensemble", ENSEMBLE),
    ],
)
def test_classes_are_the_normalised_mean_of_unit_norm_features(
    templates: str, sentences: tuple[str, ...], clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Of the dataset's own template, of one for all datasets, or of seven."""
    assert len(set(sentences)) in (1, 7)
    task = final_task(clip64, features, SEEDS)
    own = clip64.encode_texts([OWN.format(name) for name in WORDS])
    task = dataclasses.replace(task, text_features=own)
    mean = 0
    for sentence in sentences:
        ids = clip64.tokenizer([sentence.format(name) for name in WORDS])
        with torch.no_grad():
            text = clip64._model.encode_text(ids)
        mean = mean + text / text.norm(dim=1, keepdim=True)
    x = torch.tensor(features.test, dtype=torch.float64)
    expected = clip64.logit_scale * x @ torch.nn.functional.normalize(mean, dim=1).T
    made = built("zero_shot", {"templates": templates}, task, clip64).logits(x, {})
    torch.testing.assert_close(made, expected.expand(2, -1, -1), atol=1e-9, rtol=0)
