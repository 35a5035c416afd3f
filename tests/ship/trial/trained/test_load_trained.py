"""Loaded models give the tested predictions, for every generator, fine-tuner and protocol."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ship
from ship.clip import FrozenCLIP, encode_classes
from ship.finetuners import FINETUNERS
from ship.generators import GENERATORS
from ship.protocols import EvalSet
from ship.subsets import FeatureSet
from ship.trial import TrainedError
from ship.trial.run import run_trial
from ship.trial_config import TrialConfig
from tests.case_files import load_cases, mark_slow_cases
from tests.ship.finetuners.cases import FAST
from tests.ship.trial.cases import TRIALS
from tests.ship.trial.cases import SMALL, make_config
from tests.ship.trial.trained.saved_models import PER_CLASS, compare_predictions, get_test_images, run_and_save, make_noise, save_small_models, record_samples

MADE: dict[str, Any] = {"vae": SMALL, "mlp_vae": SMALL, "wgan": TRIALS["wgan"]}
NOT_KEPT = {"none", "real"}
CASES = load_cases(__file__, "shapes.yaml")
SHAPES: dict[str, dict[str, Any]] = {
    case: {**MADE.get(shape["name"], {}), **shape}
    for case, shape in {**{n: {"name": n} for n in GENERATORS}, **CASES["generators"]}.items()
}
FINE_TUNED: dict[str, dict[str, Any]] = {
    case: {**FAST.get(shape["name"], {}), **shape}
    for case, shape in {**{n: {"name": n} for n in FINETUNERS}, **CASES["finetuners"]}.items()
}


KEPT = [
    *((case, "vae") for case in FINE_TUNED),
    # methods whose saved state consists of features
    *((case, "none") for case in ("gda", "tip_adapter", "tip_adapter_f", "lp_plus_plus")),
]


@pytest.mark.parametrize(
    ("case", "generator"), mark_slow_cases(KEPT, [("coop", "vae"), ("gda", "vae"), KEPT[-2]])
)
def test_loaded_finetuner_gives_the_tested_predictions(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet, case: str, generator: str
) -> None:
    """For each seed and image, with the selected inference options."""
    finetuner = FINE_TUNED[case]
    actual = {"name": generator, **MADE.get(generator, {})}
    last = run_and_save(tmp_path, make_config(finetuner=finetuner, generator=actual), [0, 3], features, clip)
    for seed_index, seed in enumerate((0, 3)):
        loaded = ship.load_trained(tmp_path, seed, clip=clip)
        logits = loaded.logits(get_test_images(features))
        assert compare_predictions(logits, last, seed_index) == {"own": True, "all": True}
        assert loaded.epoch == last.per_seed["selection_epoch"][seed_index]
        for key, value in loaded.choice.items():
            assert value == last.per_seed[f"selection_{key}"][seed_index]
        noted = any("finetuner zero_shot has no state to save" in note for note in loaded.notes)
        assert noted == (finetuner["name"] == "zero_shot")


def test_loaded_logits_of_a_solo_run_are_bitwise_equal(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batched products of several seeds may round differently."""
    seen: list[torch.Tensor] = []
    answers = EvalSet.predictions
    monkeypatch.setattr(
        EvalSet,
        "predictions",
        lambda eval_set, logits: seen.append(logits) or answers(eval_set, logits),
    )
    run_and_save(tmp_path, make_config(), [3], features, clip)
    loaded = ship.load_trained(tmp_path, clip=clip)
    assert torch.equal(loaded.logits(get_test_images(features)), seen[-1][0])
    unasked = run_trial(make_config(), [3], features, clip)
    assert list(unasked) and unasked.trained is None


@pytest.mark.parametrize("case", mark_slow_cases(SHAPES, ("vae", "wgan", "gaussian_text", "none")))
def test_loaded_generator_gives_the_trials_features(
    tmp_path: Path,
    clip: FrozenCLIP,
    features: FeatureSet,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the same noise, bitwise if the seed was trained in a solo run."""
    actual = record_samples(monkeypatch)
    generator, name = SHAPES[case], SHAPES[case]["name"]
    run_and_save(tmp_path, make_config(generator=generator), [3], features, clip)
    loaded = ship.load_trained(tmp_path, clip=clip)
    if name in NOT_KEPT:
        assert loaded.notes == (f"generator {name} has no state to save",)
        with pytest.raises(TrainedError, match=f"contains no state of generator {name}"):
            loaded.features()
        return
    names, expected = actual[-1]  # the last one judged is the one that was tested
    result, labels = loaded.features(names, PER_CLASS, make_noise([3]))
    assert torch.equal(result, expected[0])
    assert names == loaded.new
    assert labels.tolist() == [i for i in range(len(names)) for _ in range(PER_CLASS)]
    # new classes have separate features, close to those of their name
    class_names = ("zeppelin", "dog", "zeppelin")
    result, labels = loaded.features(class_names, 4, rng=1)
    assert torch.allclose(result.norm(dim=-1), torch.ones(12), atol=1e-5)
    assert labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(result, loaded.features(class_names, 4, rng=1)[0])
    alone, _ = loaded.features(("dog",), 12, rng=1)
    assert not torch.allclose(result[:4], alone[:4], atol=1e-4)
    assert torch.allclose(result[4:8], alone[4:8], atol=1e-5)
    if case not in ("global", "fixed", "no noise"):
        assert not torch.equal(result, loaded.features(class_names, 4, rng=2)[0])


def test_new_classes_use_the_trials_templates(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Their text feature is the mean over the trial's sentences."""
    noiseless = {"name": "gaussian_text", "scale": 0.0}
    config = make_config(generator=noiseless, templates=["dataset", "a {} in a video game."])
    run_and_save(tmp_path, config, [3], features, clip)
    result, _ = ship.load_trained(tmp_path, clip=clip).features(("zeppelin",), 1)
    texts = ["a photo of a zeppelin.", "a zeppelin in a video game."]
    assert torch.allclose(result, encode_classes(clip, [texts]), atol=1e-6)


def test_logits_accept_images_files_and_features(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """All forms give the same logits, also with transparency."""
    loaded = ship.load_trained(save_small_models(tmp_path / "trained", features, clip), clip=clip)
    rng = np.random.default_rng(0)
    drawn = [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]
    prepared = torch.stack([clip.preprocess(image) for image in drawn])
    result = loaded.logits(drawn)
    assert result.shape == (3, len(features.class_names))
    assert torch.equal(result, loaded.logits(prepared))
    assert torch.equal(result, loaded.logits(clip.encode_images(prepared)))
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, drawn, strict=True):
        image.save(path)
    clear = Image.fromarray(rng.integers(0, 256, (40, 50, 4), dtype=np.uint8))
    clear.save(tmp_path / "clear.png")
    assert torch.equal(loaded.logits([clear]), loaded.logits([tmp_path / "clear.png"]))
    named = loaded.predict(paths)
    assert torch.equal(named.probabilities, result.softmax(-1))
    assert named.names == tuple(loaded.class_names[i] for i in result.argmax(-1).tolist())
    assert repr(loaded).startswith(f"TrainedModel({loaded.config.finetuner.name} with generator ")
    assert loaded.logits([]).shape == (0, len(features.class_names))
    with pytest.raises(ValueError, match=r"features must be \(n, 16\), got \[3, 5\]"):
        loaded.logits(torch.zeros(3, 5))


def test_model_trained_in_double_precision_is_loaded_in_it(
    tmp_path: Path, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Its logits are in double precision."""
    last = run_and_save(tmp_path, make_config(), [0], features, clip64, dtype=torch.float64)
    loaded = ship.load_trained(tmp_path, clip=clip64)
    logits = loaded.logits(get_test_images(features))
    assert logits.dtype == torch.float64
    assert compare_predictions(logits, last, 0) == {"own": True, "all": True}


def test_packaged_backbone_is_loaded_by_name(tmp_path: Path) -> None:
    """The name in the file is sufficient."""
    from tests.ship.conftest import build_features

    pocket = FrozenCLIP.load("pocket")
    actual = build_features(pocket)
    folder = save_small_models(tmp_path / "trained", actual, pocket)
    loaded = ship.load_trained(folder / "seed_3.safetensors")
    assert (loaded.seed, loaded.clip.name, loaded.config.backbone) == (3, "pocket", "pocket")
    assert isinstance(loaded.config, TrialConfig)


def test_images_are_encoded_with_the_trials_image_precision(tmp_path: Path) -> None:
    """A given backbone with another precision is rejected."""
    from tests.ship.conftest import build_features

    pocket = FrozenCLIP.load("pocket")
    folder = save_small_models(tmp_path / "trained", build_features(pocket), pocket, image_precision="bf16")
    assert ship.load_trained(folder).clip.image_precision == "bf16"
    with pytest.raises(TrainedError, match=r"trained in image_precision bf16, .* in fp32; set the"):
        ship.load_trained(folder, clip=pocket)
