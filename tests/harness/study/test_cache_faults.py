"""A feature cache that is damaged between two runs of a study: no number of it moves."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.method import Method
from ship.clip.frozen_clip import FrozenCLIP
from ship.datasets import PictureDataset, Split, load_dataset
from ship.features.feature_set import FeatureSet, extract_features
from ship.metrics import EpochMetrics
from tests.harness import fakes
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.same_table import assert_same_table

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("by_value")]


def few_pictures() -> PictureDataset:
    """The packaged dataset with a dozen pictures a split."""
    whole = load_dataset("emoji")
    cut = {
        name: Split(split.pictures[:12], split.labels[:12]) for name, split in whole.splits.items()
    }
    return replace(whole, splits=cut)


def extract(
    log: Path,
    clip: Any,
    dataset: Any,
    views: int,
    cache: Path,
    report: Any,
    splits: Any,
    encode: Any = None,
) -> FeatureSet:
    """Real features of few pictures, through the real cache."""
    features = extract_features(FrozenCLIP.load(), few_pictures(), views, cache, report, splits)
    return replace(features, backbone_fingerprint=clip.fingerprint)  # the workers' one is no CLIP


def looking(run_trial: Any, config: Any, seeds: Any, features: Any, *rest: Any) -> Iterator[Any]:
    """The analytic method with numbers that every bit of the features has a part in."""
    seen = sum(float(abs(array).sum()) for array in (features.train, features.val, features.test))
    held = fakes.FakeFeatures("emoji", features.train)
    for item in run_trial(config, seeds, held, *rest):
        moved = {
            name: tuple(value + (0 if "epoch" in name else seen / 1e4) for value in values)
            for name, values in item.per_replica.items()
        }
        yield EpochMetrics(item.stage, item.epoch, item.progress, moved)


class LookingBench(Bench):
    """A bench whose numbers depend on real features."""

    @property
    def method(self) -> Method:
        """The analytic method, with real features."""
        plain = fakes.make_method(self.log)
        run = partial(looking, plain.run_trial)
        return replace(plain, run_trial=run, extract=partial(extract, self.log))


def test_damaged_features_are_extracted_again(
    bench: Bench, empty_store: Path, tmp_path: Path
) -> None:
    """One file truncated, one with a bit flipped, one replaced by another: the same table."""
    calm = tmp_path / "calm"
    calm.mkdir()
    shutil.copy(empty_store, calm / "mlflow.db")
    undisturbed = LookingBench(f"sqlite:///{calm}/mlflow.db", calm / "log", calm / "cache")
    assert undisturbed.run(make_study(seeds=3)).complete
    bench = LookingBench(bench.uri, bench.log, bench.cache)
    assert bench.run(make_study(seeds=2)).complete
    files = {split: _only(bench.cache, split) for split in ("train", "val", "test")}
    files["train"].write_bytes(files["train"].read_bytes()[:-4])
    content = bytearray(files["val"].read_bytes())
    content[-10] ^= 1
    files["test"].write_bytes(content)
    files["val"].write_bytes(content)
    assert bench.run(make_study(seeds=3)).complete
    bench.check_invariants()
    assert_same_table(bench.uri, undisturbed.uri)


def _only(cache: Path, split: str) -> Path:
    (found,) = cache.rglob(f"*-{split}-*.safetensors")
    return found
