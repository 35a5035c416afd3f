"""Loaded models give the tested predictions and features, for every generator and fine-tuner."""

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
from tests.ship.trial.cases import SMALL, TRIALS, make_config
from tests.ship.trial.trained.saved_models import (
    PER_CLASS,
    compare_predictions,
    get_test_images,
    make_noise,
    record_samples,
    run_and_save,
    save_small_models,
)

SMALL_GENERATORS: dict[str, Any] = {"vae": SMALL, "mlp_vae": SMALL, "wgan": TRIALS["wgan"]}
NOT_SAVED = {"none", "real"}
CASES = load_cases(__file__, "shapes.yaml")
SHAPES: dict[str, dict[str, Any]] = {
    case: {**SMALL_GENERATORS.get(shape["name"], {}), **shape}
    for case, shape in {**{n: {"name": n} for n in GENERATORS}, **CASES["generators"]}.items()
}
FINE_TUNED: dict[str, dict[str, Any]] = {
    case: {**FAST.get(shape["name"], {}), **shape}
    for case, shape in {**{n: {"name": n} for n in FINETUNERS}, **CASES["finetuners"]}.items()
}


SAVED = [
    *((case, "vae") for case in FINE_TUNED),
    # methods whose saved state consists of features
    *((case, "none") for case in ("gda", "tip_adapter", "tip_adapter_f", "lp_plus_plus")),
]


@pytest.mark.parametrize(
    ("case", "generator"), mark_slow_cases(SAVED, [("coop", "vae"), ("gda", "vae"), SAVED[-2]])
)
def test_loaded_finetuner_gives_the_tested_predictions(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet, case: str, generator: str
) -> None:
    """They are equal for each seed and image, and the selected inference options are loaded."""
    finetuner = FINE_TUNED[case]
    generator_options = {"name": generator, **SMALL_GENERATORS.get(generator, {})}
    config = make_config(finetuner=finetuner, generator=generator_options)
    last = run_and_save(tmp_path, config, [0, 3], features, clip)
    for seed_index, seed in enumerate((0, 3)):
        loaded = ship.load_trained(tmp_path, seed, clip=clip)
        logits = loaded.logits(get_test_images(features))
        assert compare_predictions(logits, last, seed_index) == {"own": True, "all": True}
        assert loaded.epoch == last.per_seed["selection_epoch"][seed_index]
        for key, value in loaded.choice.items():
            assert value == last.per_seed[f"selection_{key}"][seed_index]
        note = "finetuner zero_shot has no state to save"
        has_note = any(note in line for line in loaded.notes)
        assert has_note == (finetuner["name"] == "zero_shot")


def test_loaded_logits_of_a_solo_run_are_bitwise_equal(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several seeds are not tested, as their batched products may be rounded differently."""
    tested_logits: list[torch.Tensor] = []
    compute_predictions = EvalSet.predictions

    def record_logits(eval_set: EvalSet, logits: torch.Tensor) -> Any:
        tested_logits.append(logits)
        return compute_predictions(eval_set, logits)

    monkeypatch.setattr(EvalSet, "predictions", record_logits)
    run_and_save(tmp_path, make_config(), [3], features, clip)
    loaded = ship.load_trained(tmp_path, clip=clip)
    assert torch.equal(loaded.logits(get_test_images(features)), tested_logits[-1][0])


def test_models_are_only_saved_on_request(clip: FrozenCLIP, features: FeatureSet) -> None:
    """The default of save_models is False."""
    run = run_trial(make_config(), [3], features, clip)
    assert list(run) and run.trained is None


@pytest.mark.parametrize("case", mark_slow_cases(SHAPES, ("vae", "wgan", "gaussian_text", "none")))
def test_loaded_generator_gives_the_trials_features(
    tmp_path: Path,
    clip: FrozenCLIP,
    features: FeatureSet,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same noise gives bitwise equal features if the seed was trained in a solo run.

    New classes have separate features, which are close to those that their name has alone.
    """
    samples = record_samples(monkeypatch)
    generator, name = SHAPES[case], SHAPES[case]["name"]
    run_and_save(tmp_path, make_config(generator=generator), [3], features, clip)
    loaded = ship.load_trained(tmp_path, clip=clip)
    if name in NOT_SAVED:
        assert loaded.notes == (f"generator {name} has no state to save",)
        with pytest.raises(TrainedError, match=f"contains no state of generator {name}"):
            loaded.features()
        return
    names, expected = samples[-1]  # the tested generator is evaluated last
    result, labels = loaded.features(names, PER_CLASS, make_noise([3]))
    assert torch.equal(result, expected[0])
    assert names == loaded.new
    assert labels.tolist() == [i for i in range(len(names)) for _ in range(PER_CLASS)]
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
    """The text feature of a new class is the mean over the trial's sentences."""
    noiseless = {"name": "gaussian_text", "scale": 0.0}
    config = make_config(generator=noiseless, templates=["dataset", "a {} in a video game."])
    run_and_save(tmp_path, config, [3], features, clip)
    result, _ = ship.load_trained(tmp_path, clip=clip).features(("zeppelin",), 1)
    texts = ["a photo of a zeppelin.", "a zeppelin in a video game."]
    assert torch.allclose(result, encode_classes(clip, [texts]), atol=1e-6)


def test_logits_accept_images_files_and_features(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """They give the same logits in each of these forms, also if an image has transparent pixels."""
    loaded = ship.load_trained(save_small_models(tmp_path / "trained", features, clip), clip=clip)
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]
    preprocessed = torch.stack([clip.preprocess(image) for image in images])
    result = loaded.logits(images)
    assert result.shape == (3, len(features.class_names))
    assert torch.equal(result, loaded.logits(preprocessed))
    assert torch.equal(result, loaded.logits(clip.encode_images(preprocessed)))
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    transparent = Image.fromarray(rng.integers(0, 256, (40, 50, 4), dtype=np.uint8))
    transparent.save(tmp_path / "transparent.png")
    from_file = loaded.logits([tmp_path / "transparent.png"])
    assert torch.equal(loaded.logits([transparent]), from_file)
    predictions = loaded.predict(paths)
    assert torch.equal(predictions.probabilities, result.softmax(-1))
    assert predictions.names == tuple(loaded.class_names[i] for i in result.argmax(-1).tolist())
    assert repr(loaded).startswith(f"TrainedModel({loaded.config.finetuner.name} with generator ")
    assert loaded.logits([]).shape == (0, len(features.class_names))
    with pytest.raises(ValueError, match=r"features must be \(n, 16\), got \[3, 5\]"):
        loaded.logits(torch.zeros(3, 5))


def test_model_trained_in_double_precision_is_loaded_in_double_precision(
    tmp_path: Path, clip64: FrozenCLIP, features: FeatureSet
) -> None:
    """Its logits are in double precision, too."""
    last = run_and_save(tmp_path, make_config(), [0], features, clip64, dtype=torch.float64)
    loaded = ship.load_trained(tmp_path, clip=clip64)
    logits = loaded.logits(get_test_images(features))
    assert logits.dtype == torch.float64
    assert compare_predictions(logits, last, 0) == {"own": True, "all": True}


def test_packaged_backbone_is_loaded_by_name(tmp_path: Path) -> None:
    """If no backbone is passed, the name in the file is used."""
    from tests.ship.conftest import build_features

    pocket = FrozenCLIP.load("pocket")
    folder = save_small_models(tmp_path / "trained", build_features(pocket), pocket)
    loaded = ship.load_trained(folder / "seed_3.safetensors")
    assert (loaded.seed, loaded.clip.name, loaded.config.backbone) == (3, "pocket", "pocket")
    assert isinstance(loaded.config, TrialConfig)


def test_images_are_encoded_with_the_trials_image_precision(tmp_path: Path) -> None:
    """A backbone that is passed with another precision is rejected."""
    from tests.ship.conftest import build_features

    pocket = FrozenCLIP.load("pocket")
    folder = save_small_models(
        tmp_path / "trained", build_features(pocket), pocket, image_precision="bf16"
    )
    assert ship.load_trained(folder).clip.image_precision == "bf16"
    with pytest.raises(TrainedError, match=r"trained in image_precision bf16, .* in fp32; set the"):
        ship.load_trained(folder, clip=pocket)
