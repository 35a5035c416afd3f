"""Helpers that run trials, save their models, and compare loaded models with the trial's report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ship import quality
from ship.clip import FrozenCLIP
from ship.generators import SampleFunction
from ship.protocols import EvalSet
from ship.seeds import SeedRng
from ship.subsets import FeatureSet
from ship.trial.run import run_trial
from ship.trial_config import EpochMetrics, TrialConfig
from tests.ship.trial.cases import make_config

PER_CLASS = 3
MANIFEST, SEED = "trained.json", "seed_0.safetensors"


def run_and_save(
    folder: Path,
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    **options: Any,
) -> EpochMetrics:
    """Run a trial, write its models into a folder, and return the metrics of its test."""
    run = run_trial(config, seeds, features, clip, save_models=True, **options)
    *epochs, last = run
    assert run.trained is not None
    assert not any(item.correct_predictions for item in epochs)
    write_files(run.trained, folder)
    return last


def write_files(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write files into a folder and return the folder."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def save_small_models(folder: Path, features: FeatureSet, clip: FrozenCLIP, **changes: Any) -> Path:
    """Run a short trial, write the models of seeds 0 and 3 into a folder, and return the folder."""
    run_and_save(folder, make_config(**changes), [0, 3], features, clip)
    return folder


def compare_predictions(
    logits: Tensor, last: EpochMetrics, seed_index: int, eval_set: int = 0
) -> dict[str, bool]:
    """Compare the predictions of logits with those of a trial's report.

    Args:
        logits: Logits of a loaded model.
        last: Metrics of the trial's test.
        seed_index: Index of the model's seed in the trial.
        eval_set: Index of the evaluated set.

    Returns:
        Whether exactly the same images are correct, by kind of prediction: among all classes
        (`all`), or among the seen or the unseen classes, whichever has the label (`own`).
    """
    predictions = last.correct_predictions[eval_set]
    labels, seen = torch.tensor(predictions.class_ids), torch.tensor(predictions.seen)
    result = {}
    for kind, rows in predictions.correct.items():
        bits = np.unpackbits(np.frombuffer(rows[seed_index], dtype=np.uint8), count=len(labels))
        candidates = logits.clone()
        if kind == "own":
            candidates[seen[labels].unsqueeze(1) != seen] = -torch.inf
        correct = candidates.argmax(-1) == labels
        result[kind] = bool(correct.numpy().tolist() == bits.tolist())
    return result


def make_noise(seeds: Sequence[int]) -> SeedRng:
    """Return a noise stream for each seed."""
    return SeedRng(seeds, "test/noise")


def record_samples(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], Tensor]]:
    """Return a list that gets the classes and samples of every generator that is evaluated."""
    samples: list[tuple[tuple[str, ...], Tensor]] = []
    measure_eval_set = quality.measure_eval_set

    def measure_and_record(
        sample: SampleFunction, eval_set: EvalSet, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        ids = eval_set.task.synthetic_ids
        labels = ids.repeat_interleave(PER_CLASS, dim=1)
        names = tuple(eval_set.task.class_names[i] for i in ids[0])
        samples.append((names, sample(labels, make_noise(seeds))))
        return measure_eval_set(sample, eval_set, seeds)

    monkeypatch.setattr(quality, "measure_eval_set", measure_and_record)
    return samples


class SavedFiles(dict[str, dict[str, bytes]]):
    """Saved files of trials by fine-tuner. The short repr keeps hypothesis' output readable."""

    __repr__ = object.__repr__


def write_model(folder: Path, manifest: bytes, tensors: bytes) -> Path:
    """Write the two files of a saved model into a folder and return the folder."""
    return write_files({MANIFEST: manifest, SEED: tensors}, folder)


def get_test_images(features: FeatureSet) -> torch.Tensor:
    """Return the features of the test images."""
    return torch.tensor(features.test)
