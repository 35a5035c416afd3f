"""Saved models of trials under each protocol and selection, including resumed trials."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import ship
from ship.clip import FrozenCLIP
from ship.state import CheckpointError
from ship.subsets import FeatureSet
from ship.trial import TrainedError, run
from ship.trial.run import run_trial
from tests.case_files import mark_slow_cases
from tests.ship.finetuners.cases import FAST
from tests.ship.trial.cases import TRIALS, make_config
from tests.ship.trial.trained.saved_models import compare_predictions, get_test_images, run_and_save


@pytest.mark.parametrize("changes", mark_slow_cases(TRIALS["saved"], TRIALS["saved"][-3:]), ids=str)
@pytest.mark.parametrize("finetuner", ["coop", "tip_adapter_f"])
def test_saved_model_is_the_tested_one_under_every_protocol(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet, changes: dict[str, Any], finetuner: str
) -> None:
    """Its correct predictions equal those of the report."""
    config = make_config(finetuner={"name": finetuner, **FAST[finetuner]}, **changes)
    last = run_and_save(tmp_path, config, [0, 3], features, clip)
    (eval_set,) = last.correct_predictions
    for seed_index, seed in enumerate((0, 3)):
        loaded = ship.load_trained(tmp_path, seed, clip=clip)
        logits = loaded.logits(get_test_images(features))
        assert all(compare_predictions(logits, last, seed_index).values())
        assert loaded.class_names == eval_set.class_names
        assert len(loaded.base) == sum(eval_set.seen)
        share = (logits.argmax(1) == torch.tensor(eval_set.class_ids)).double().mean().item()
        for name in {"accuracy", "joint_accuracy"} & last.per_seed.keys():
            assert last.per_seed[name][seed_index] == pytest.approx(100 * share)


def test_each_target_has_its_own_finetuner(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """All targets share one generator."""
    targets = {"a": features, "b": features.first_classes(5)}
    config = make_config(protocol="cross_dataset", targets=["a", "b"])
    last = run_and_save(tmp_path, config, [0, 3], features, clip, targets=targets)
    assert [eval_set.eval_set for eval_set in last.correct_predictions[:3]] == [
        "accuracy/a",
        "source",
        "accuracy/b",
    ]
    for seed_index, seed in enumerate((0, 3)):
        for eval_set_index, name in ((0, "a"), (2, "b")):
            loaded = ship.load_trained(tmp_path, seed, target=name, clip=clip)
            logits = loaded.logits(torch.tensor(targets[name].test))
            competing = torch.tensor([n in targets[name].class_names for n in loaded.class_names])
            logits = logits.masked_fill(~competing, -torch.inf)
            assert compare_predictions(logits, last, seed_index, eval_set_index) == {"all": True}
    with pytest.raises(TrainedError, match="has no target 'nowhere'; choices: a, b"):
        ship.load_trained(tmp_path, target="nowhere", clip=clip)


def test_selection_authors_saves_the_best_age_of_each_seed(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generator and fine-tuner have the reported age, i.e. number of generator epochs.

    The metric is replaced, so that the last age is the best of seed 0 and the first that of seed 3.
    """
    evaluated: list[tuple[Any, Any]] = []
    select_choices = run.select_choices

    def replace_metric(finetuner: Any, eval_set: Any, protocol: Any) -> Any:
        metrics, choice = select_choices(finetuner, eval_set, protocol)
        learned = finetuner._step_synthesizer._sample.__self__.learned()["bias.weight"]
        logits = finetuner.logits(eval_set.images.features, {})
        evaluated.append((logits, learned.detach().clone()))
        age = float(len(evaluated))
        return {**metrics, protocol.metric: torch.tensor([age, -age])}, choice

    monkeypatch.setattr(run, "select_choices", replace_metric)
    last = run_and_save(tmp_path, make_config(selection="authors"), [0, 3], features, clip)
    assert len(evaluated) == 3 and last.correct_predictions == ()
    for seed_index, seed, age in ((0, 0, 3), (1, 3, 1)):
        loaded = ship.load_trained(tmp_path, seed, clip=clip)
        logits, learned = evaluated[age - 1]
        assert torch.allclose(
            loaded.logits(get_test_images(features)), logits[seed_index], atol=1e-5
        )
        tensors = safetensors.torch.load_file(tmp_path / f"seed_{seed}.safetensors")
        assert torch.equal(tensors["generator.bias.weight"], learned[seed_index : seed_index + 1])
        assert loaded.epoch == last.per_seed["selection_age"][seed_index] == age
        assert loaded.features()[0].isfinite().all()


def test_resumed_trial_saves_the_same_files(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """The files are bitwise equal, also if the trial stopped between targets of cross_dataset."""
    targets = {"a": features, "b": features.first_classes(5)}
    config = make_config(protocol="cross_dataset", targets=["a", "b"])
    run_and_save(tmp_path, config, [0, 3], features, clip, targets=targets)
    expected = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run = run_trial(config, [0, 3], features, clip, targets, save_models=True)
    checkpoints = [run.checkpoint() for item in run if item.stage == "final"]
    assert len(checkpoints) >= 4
    for checkpoint in (checkpoints[0], checkpoints[-1]):
        resumed = run_trial(
            config, [0, 3], features, clip, targets, resume=checkpoint, save_models=True
        )
        list(resumed)
        assert resumed.trained is not None
        assert resumed.trained == expected


@pytest.mark.parametrize("save_models", [False, True])
def test_checkpoint_with_another_save_models_is_rejected(
    clip: FrozenCLIP, features: FeatureSet, save_models: bool
) -> None:
    """The saved state would be missing, or belong to a later age."""
    config = make_config(selection="authors", finetuner={"name": "tip_adapter"})
    stopped = run_trial(config, [0, 3], features, clip, save_models=save_models)
    next(item for item in stopped if item.stage == "selection")
    checkpoint = stopped.checkpoint()
    with pytest.raises(CheckpointError, match=f"save_models must be {save_models}"):
        run_trial(config, [0, 3], features, clip, resume=checkpoint, save_models=not save_models)
    assert next(
        run_trial(config, [0, 3], features, clip, resume=checkpoint, save_models=save_models)
    )
