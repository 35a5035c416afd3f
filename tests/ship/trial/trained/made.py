"""Trials whose models are saved, and folders with their files."""

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
from tests.ship.trial.cases import config

PER_CLASS = 3
MANIFEST, SEED = "trained.json", "seed_0.safetensors"


def kept(
    folder: Path,
    setting: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    **more: Any,
) -> EpochMetrics:
    """Run a trial, write its models into a folder, and return the test's report."""
    run = run_trial(setting, seeds, features, clip, save_models=True, **more)
    *before, last = run
    assert run.trained is not None and not any(item.correct_predictions for item in before)
    written(run.trained, folder)
    return last


def written(files: Mapping[str, bytes], folder: Path) -> Path:
    """Write files into a folder and return it."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def small(folder: Path, features: FeatureSet, clip: FrozenCLIP, **changes: Any) -> Path:
    """Write the models of seeds 0 and 3 of a short trial into a folder."""
    kept(folder, config(**changes), [0, 3], features, clip)
    return folder


def answers(
    logits: Tensor, last: EpochMetrics, seed_index: int, eval_set: int = 0
) -> dict[str, bool]:
    """Return, by kind, whether logits give exactly the correct predictions of a report."""
    predictions = last.correct_predictions[eval_set]
    labels, seen = torch.tensor(predictions.class_ids), torch.tensor(predictions.seen)
    result = {}
    for kind, rows in predictions.correct.items():
        bits = np.unpackbits(np.frombuffer(rows[seed_index], dtype=np.uint8), count=len(labels))
        among = logits.clone()
        if kind == "own":
            among[seen[labels].unsqueeze(1) != seen] = -torch.inf
        result[kind] = bool((among.argmax(-1) == labels).numpy().tolist() == bits.tolist())
    return result


def noise(seeds: Sequence[int]) -> SeedRng:
    """Return a noise stream for each seed."""
    return SeedRng(seeds, "test/noise")


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], Tensor]]:
    """Record the classes and samples of each trial's tested generator."""
    actual: list[tuple[tuple[str, ...], Tensor]] = []
    measure_eval_set = quality.measure_eval_set

    def watching(
        sample: SampleFunction, eval_set: EvalSet, seeds: Sequence[int]
    ) -> dict[str, Tensor]:
        ids = eval_set.task.synthetic_ids
        labels = ids.repeat_interleave(PER_CLASS, dim=1)
        names = tuple(eval_set.task.class_names[i] for i in ids[0])
        actual.append((names, sample(labels, noise(seeds))))
        return measure_eval_set(sample, eval_set, seeds)

    monkeypatch.setattr(quality, "measure_eval_set", watching)
    return actual


class Sound(dict[str, dict[str, bytes]]):
    """Files of a configuration by the name of its fine-tuner; hypothesis need not print them."""

    __repr__ = object.__repr__


def write(place: Path, manifest_bytes: bytes, tensors: bytes) -> Path:
    """Write these files into a folder."""
    return written({MANIFEST: manifest_bytes, SEED: tensors}, place)


def images(features: FeatureSet) -> torch.Tensor:
    """Return the features of the test images."""
    return torch.tensor(features.test)
