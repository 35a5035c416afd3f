"""Zero-shot CLIP with templates, descriptions and random words, and faults of the file."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from pydantic import ValidationError

import ship
from ship.clip import FrozenCLIP
from ship.configs.finetuners import ZeroShotConfig
from ship.finetuners.zero_shot import read_class_descriptions
from ship.subsets import FeatureSet
from ship.templates import ENSEMBLE
from tests.case_files import load_cases
from tests.damage import DAMAGE, Damage, apply_damage
from tests.ship.conftest import WORDS, final_task
from tests.ship.finetuners.cases import SEEDS, built
from tests.ship.trial.cases import make_config
from tests.ship.trial.trained.saved_models import compare_predictions, get_test_images, run_and_save

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
def test_zero_shot_features_are_normalized_means_over_templates(
    templates: str, sentences: tuple[str, ...], clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """For the dataset's template, a single template and the ensemble."""
    assert len(set(sentences)) in (1, 7)
    task = final_task(clip64, features, SEEDS)
    custom_features = clip64.encode_texts([OWN.format(name) for name in WORDS])
    task = dataclasses.replace(task, text_features=custom_features)
    mean = 0
    for sentence in sentences:
        ids = clip64.tokenizer([sentence.format(name) for name in WORDS])
        with torch.no_grad():
            text = clip64._model.encode_text(ids)
        mean = mean + text / text.norm(dim=1, keepdim=True)
    x = torch.tensor(features.test, dtype=torch.float64)
    expected = clip64.logit_scale * x @ torch.nn.functional.normalize(mean, dim=1).T
    actual = built("zero_shot", {"templates": templates}, task, clip64).logits(x, {})
    torch.testing.assert_close(actual, expected.expand(2, -1, -1), atol=1e-9, rtol=0)


WRITTEN = {
    name.upper(): [f"A {name} is round.", f"Most {name}s are quite small and old."][: 1 + i % 2]
    for i, name in enumerate(WORDS)
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Descriptions of all classes, one or two per class, and of an unknown class."""
    path = tmp_path / "written.json"
    path.write_text(json.dumps({**WRITTEN, "unicorn": ["Some zebra words."]}))
    return path


def config(file: Path, **more: Any) -> ZeroShotConfig:
    """Return settings with the file."""
    return ZeroShotConfig(descriptions=str(file), **more)


def test_zero_shot_features_are_means_over_descriptions(
    file: Path, clip64: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences are encoded in chunks; names are matched in any case."""
    monkeypatch.setattr("ship.clip.sentences._SENTENCES_AT_ONCE", 3)
    task = final_task(clip64, features, SEEDS)
    zero_shot = built("zero_shot", {"descriptions": str(file)}, task, clip64)
    means = []
    for name in WORDS:
        with torch.no_grad():
            text = clip64._model.encode_text(clip64.tokenizer(WRITTEN[name.upper()]))
        means.append((text / text.norm(dim=1, keepdim=True)).mean(0))
    x = task.features[0, :, 0]
    logits = task.logit_scale * x @ torch.nn.functional.normalize(torch.stack(means)).T
    torch.testing.assert_close(zero_shot.logits(x, {})[1], logits, atol=1e-9, rtol=0)


def test_random_words_have_the_length_of_descriptions_and_are_shared(file: Path) -> None:
    """All classes share the words of their n-th description; the seed selects them."""
    actual = read_class_descriptions(config(file, random_words=3), WORDS)
    pool = {w for texts in WRITTEN.values() for text in texts for w in text.split()}
    pool |= {"Some", "zebra", "words."}
    rows: list[list[str]] = [[], []]
    for name, texts in zip(WORDS, actual, strict=True):
        for row, text, was in zip(rows, texts, WRITTEN[name.upper()], strict=False):
            head, words = text.split(", ", 1)[0], text.split(", ", 1)[1].split()
            assert head == f"a photo of a {name}" and len(words) == len(was.split())
            assert set(words) <= pool and words[: len(row)] == row[: len(words)]
            row += words[len(row) :]
    assert [len(texts) for texts in actual] == [len(texts) for texts in WRITTEN.values()]
    assert rows[0] != rows[1][: len(rows[0])]
    assert read_class_descriptions(config(file, random_words=3), WORDS) == actual
    assert read_class_descriptions(config(file, random_words=4), WORDS) != actual


def test_descriptions_with_other_content_are_another_configuration(file: Path) -> None:
    """The digest is part of the settings; a file that changed later is rejected."""
    old = config(file)
    assert ZeroShotConfig.model_validate(old.model_dump()) == old
    file.write_text(json.dumps({**WRITTEN, "CAT": ["Another one."]}))
    assert config(file).model_dump() != old.model_dump()
    with pytest.raises(ValueError, match="has changed since the study began"):
        read_class_descriptions(old, WORDS)
    assert read_class_descriptions(config(file), WORDS)[0] == ["Another one."]


@pytest.mark.parametrize(
    "case",
    [*load_cases(__file__, "descriptions.yaml"), {"content": "[" * 100_000, "says": "is not JSON"}],
    ids=lambda case: case["says"],
)
def test_faulty_descriptions_file_is_one_line(tmp_path: Path, case: dict[str, Any]) -> None:
    """The line has the name of the file."""
    path = tmp_path / "faulty.json"
    content = case.get("content") or json.dumps({**WRITTEN, **case["instead"]})
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=f"faulty.json: {case['says']}"):
        read_class_descriptions(config(path), WORDS)


@given(damage=DAMAGE)
def test_damaged_descriptions_raise_only_value_errors(tmp_path: Path, damage: Damage) -> None:
    """Random bytes and truncated files."""
    path = tmp_path / "damaged.json"
    path.write_bytes(apply_damage(json.dumps(WRITTEN).encode(), damage))
    try:
        assert len(read_class_descriptions(config(path), WORDS)) == 8
    except ValueError as error:
        assert "damaged.json" in str(error)


def test_faulty_description_settings_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    """Missing, too large and non-regular files, and random_words without descriptions."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ValidationError, match=r"No such file|must be a regular file"):
            config(path)
    with pytest.raises(ValidationError, match="random_words requires descriptions"):
        ZeroShotConfig(random_words=1)
    monkeypatch.setattr("ship.configs.finetuners.MAX_DESCRIPTIONS_BYTES", 10)
    with pytest.raises(ValidationError, match="has more than 10 bytes"):
        config(file)


def test_templates_have_no_effect_with_descriptions(file: Path) -> None:
    """Neither the trial's nor the fine-tuner's; a factor over them is refused with the reason."""
    for key in ("templates", "finetuner.templates"):
        assert "descriptions" in (config(file).explain_unused(key) or "")
        assert ZeroShotConfig().explain_unused(key) is None
    assert ZeroShotConfig(templates="ensemble").explain_unused("finetuner.templates") is None


def test_saved_descriptions_need_no_file(
    tmp_path: Path, file: Path, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """A loaded model gives the logits of the trial without the file."""
    setting = make_config(selection="none", generator={"name": "none"}, finetuner=config(file))
    last = run_and_save(tmp_path, setting, SEEDS, features, clip)
    file.unlink()
    loaded = ship.load_trained(tmp_path, SEEDS[1], clip=clip)
    assert all(compare_predictions(loaded.logits(get_test_images(features)), last, 1).values())
