"""Saved models under each protocol and selection, of several seeds and of resumed trials."""

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
from tests.ship.trial.cases import SETTINGS, config
from tests.ship.trial.trained.made import answers, images, kept


@pytest.mark.parametrize(
    "changes", mark_slow_cases(SETTINGS["kept"], SETTINGS["kept"][-3:]), ids=str
)
@pytest.mark.parametrize("finetuner", ["coop", "tip_adapter_f"])
def test_saved_model_is_the_tested_one_under_every_protocol(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet, changes: dict[str, Any], finetuner: str
) -> None:
    """Its correct predictions equal those of the report."""
    setting = config(finetuner={"name": finetuner, **FAST[finetuner]}, **changes)
    last = kept(tmp_path, setting, [0, 3], features, clip)
    (eval_set,) = last.correct_predictions
    for seed_index, seed in enumerate((0, 3)):
        loaded = ship.load_trained(tmp_path, seed, clip=clip)
        logits = loaded.logits(images(features))
        assert all(answers(logits, last, seed_index).values())
        assert loaded.class_names == eval_set.class_names
        assert len(loaded.base) == sum(eval_set.seen)
        share = (logits.argmax(1) == torch.tensor(eval_set.class_ids)).double().mean().item()
        for name in {"accuracy", "joint_accuracy"} & last.per_seed.keys():
            assert last.per_seed[name][seed_index] == pytest.approx(100 * share)


def test_each_target_has_its_own_finetuner(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """They share one generator."""
    there = features.first_classes(5)
    targets = {"here": features, "there": there}
    setting = config(protocol="cross_dataset", targets=["here", "there"])
    last = kept(tmp_path, setting, [0, 3], features, clip, targets=targets)
    assert [eval_set.eval_set for eval_set in last.correct_predictions[:3]] == [
        "accuracy/here",
        "source",
        "accuracy/there",
    ]
    for seed_index, seed in enumerate((0, 3)):
        for place, name in ((0, "here"), (2, "there")):
            loaded = ship.load_trained(tmp_path, seed, target=name, clip=clip)
            logits = loaded.logits(torch.tensor(targets[name].test))
            competing = torch.tensor([n in targets[name].class_names for n in loaded.class_names])
            logits = logits.masked_fill(~competing, -torch.inf)
            assert answers(logits, last, seed_index, place) == {"all": True}
    with pytest.raises(TrainedError, match="has no target 'nowhere'; choices: here, there"):
        ship.load_trained(tmp_path, target="nowhere", clip=clip)


def test_selection_authors_saves_the_best_age_of_each_seed(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generator and fine-tuner are those of the age that is reported."""
    seen: list[tuple[Any, Any]] = []
    select = run.select_choices

    def watching(finetuner: Any, eval_set: Any, protocol: Any) -> Any:
        metrics, choice = select(finetuner, eval_set, protocol)
        learned = finetuner._step_synthesizer._sample.__self__.learned()["bias.weight"]
        seen.append((finetuner.logits(eval_set.images.features, {}), learned.detach().clone()))
        rising = torch.tensor([float(len(seen)), -float(len(seen))])
        return {**metrics, protocol.metric: rising}, choice

    monkeypatch.setattr(run, "select_choices", watching)
    last = kept(tmp_path, config(selection="authors"), [0, 3], features, clip)
    assert len(seen) == 3 and last.correct_predictions == ()
    for seed_index, seed, age in ((0, 0, 3), (1, 3, 1)):
        loaded = ship.load_trained(tmp_path, seed, clip=clip)
        logits, learned = seen[age - 1]
        assert torch.allclose(loaded.logits(images(features)), logits[seed_index], atol=1e-5)
        tensors = safetensors.torch.load_file(tmp_path / f"seed_{seed}.safetensors")
        assert torch.equal(tensors["generator.bias.weight"], learned[seed_index : seed_index + 1])
        assert loaded.epoch == last.per_seed["selection_age"][seed_index] == age
        assert loaded.features()[0].isfinite().all()


def test_resumed_trial_saves_the_same_files(
    tmp_path: Path, clip: FrozenCLIP, features: FeatureSet
) -> None:
    """Bitwise, also when it stopped between targets of cross_dataset."""
    targets = {"here": features, "there": features.first_classes(5)}
    setting = config(protocol="cross_dataset", targets=["here", "there"])
    kept(tmp_path, setting, [0, 3], features, clip, targets=targets)
    expected = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    run = run_trial(setting, [0, 3], features, clip, targets, save_models=True)
    stops = [run.checkpoint() for item in run if item.stage == "final"]
    assert len(stops) >= 4
    for stop in (stops[0], stops[-1]):
        again = run_trial(setting, [0, 3], features, clip, targets, resume=stop, save_models=True)
        list(again)
        assert again.trained is not None
        assert again.trained == expected


@pytest.mark.parametrize("before", [False, True])
def test_checkpoint_with_another_keep_is_rejected(
    clip: FrozenCLIP, features: FeatureSet, before: bool
) -> None:
    """The saved state would be missing, or belong to a later age."""
    setting = config(selection="authors", finetuner={"name": "tip_adapter"})
    stopped = run_trial(setting, [0, 3], features, clip, save_models=before)
    next(item for item in stopped if item.stage == "selection")
    stop = stopped.checkpoint()
    with pytest.raises(CheckpointError, match=f"save_models must be {before}"):
        run_trial(setting, [0, 3], features, clip, resume=stop, save_models=not before)
    assert next(run_trial(setting, [0, 3], features, clip, resume=stop, save_models=before))
