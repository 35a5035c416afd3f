"""Features that a study needs, their extraction, and remembered fingerprints."""

import io
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from rich.console import Console

from harness.config.factor import Factor
from harness.config.study_config import StudyConfig
from harness.messages import FeatureKey
from harness.method import MethodFunctions
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.store.history import RunHistory
from harness.study import features
from harness.study.extraction import format_extraction
from harness.study.features import (
    collect_needs,
    extract_missing_features,
    list_studied_labels,
    prepare_features,
)
from ship.datasets import DatasetScan, ImageFile, ImageFolder, Split, content, load_dataset
from tests.damage import DAMAGE, Damage, apply_damage
from tests.harness.fakes import FakeClip, FakeImages, make_method, make_study
from tests.ship.datasets.conftest import save_image
from tests.ship.features.encoders import FakeEncoder


def make_prints(folder: Path) -> Fingerprints:
    """Return fingerprints of the analytic method, saved in `folder`."""
    return Fingerprints(make_method(folder / "log"), None, folder / "cache")


def list_needs(study: StudyConfig, folder: Path) -> list[FeatureKey]:
    """Return the feature sets that a run of the study would read."""
    return [*collect_needs(study, make_plan(study, RunHistory(), make_prints(folder)))]


@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_one_feature_set_per_combination(tmp_path: Path, sampler: str) -> None:
    """Feature sets of configurations that a sampler may propose later are included."""
    study = make_study(sampler=sampler, n_trials=None if sampler == "grid" else 4)
    levels = {
        "augmentations": (0, 2),
        "dataset": ("emoji", "b"),
        "image_precision": ("fp32", "bf16"),
    }
    space = {name: Factor(choices=both, baseline=both[1]) for name, both in levels.items()}
    study = study.model_copy(update={"space": {**study.space, **space}})
    needs = list_needs(study, tmp_path)
    combinations = [(need.augmentations, need.dataset, need.image_precision) for need in needs]
    assert sorted(combinations) == sorted(product(*levels.values()))


def test_targets_need_only_test_images(tmp_path: Path) -> None:
    """The source needs all splits; a target needs no augmented views and only its test split."""
    study = make_study(space={"shots": [1, 2]})
    transfer = {"protocol": "cross_dataset", "targets": ("b", "c")}
    study = study.model_copy(update={"base": study.base.model_copy(update=transfer)})
    feature_sets = [
        (need.dataset, need.augmentations, need.splits) for need in list_needs(study, tmp_path)
    ]
    assert feature_sets == [
        ("photos", 2, ("train", "val", "test")), ("b", 0, ("test",)), ("c", 0, ("test",)),
    ]  # fmt: skip


def test_only_studied_classes_are_needed(tmp_path: Path) -> None:
    """These are all classes of any max_classes. Targets, and levels without a limit, need all."""
    study = make_study(space={"max_classes": [4, 5], "shots": [1, 2]})
    images = FakeImages("x", "", class_names=tuple("abcdefg"))
    ((need, configs),) = collect_needs(
        study, make_plan(study, RunHistory(), make_prints(tmp_path))
    ).items()
    assert need.dataset == "photos" and len(configs) == 2
    assert list_studied_labels(configs, images) == [0, 1, 2, 3, 4]
    official = replace(images, n_seen=4)
    assert list_studied_labels(configs, official) == [0, 1, 2, 4, 5]
    unlimited = make_study(space={"max_classes": [4, None]})
    assert [*collect_needs(unlimited).values()] == [()]
    transfer = {"protocol": "cross_dataset", "targets": ("b",), "max_classes": 4}
    study = study.model_copy(update={"base": study.base.model_copy(update=transfer)})
    assert [len(configs) for configs in collect_needs(study).values()] == [2, 0]


def test_backbone_is_loaded_once_for_all_feature_sets(tmp_path: Path) -> None:
    """Its precision is set for each feature set, and its fingerprint is remembered."""
    loaded: list[str] = []

    def load(name: str, device: str) -> FakeClip:
        loaded.append(name)
        return FakeClip(name)

    def extract(clip: FakeClip, *rest: Any) -> Any:
        return clip.fingerprint, clip.image_precision

    method = replace(make_method(tmp_path / "log"), load_backbone=load, extract=extract)
    prints = Fingerprints(method, None, tmp_path / "cache")
    combinations = list(product(("a", "b"), ("pocket", "RN50:openai"), ("fp32", "bf16")))
    needs = [FeatureKey(backbone, precision, name, 2) for name, backbone, precision in combinations]
    features = prepare_features(dict.fromkeys(needs, ()), prints, Console(quiet=True))
    assert features == {
        need: (f"weights-of-{need.backbone}", need.image_precision) for need in needs
    }
    assert sorted(loaded) == ["RN50:openai", "pocket"]
    again = Fingerprints(method, None, tmp_path / "cache")
    assert again.backbone_fingerprint("RN50:openai") == "weights-of-RN50:openai"
    assert len(loaded) == 2


def test_second_start_reads_no_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start reads each image once per use. A changed image is detected."""
    for label, number in product(range(2), range(6)):
        save_image(tmp_path / "few" / f"thing {label}" / f"{number}.png", label)
    reads, scans = list[str](), list[str]()
    original_read, original_scan = ImageFile.read, ImageFolder.scan

    def read(image: ImageFile) -> bytes:
        reads.append(image.name)
        return original_read(image)

    def scan(spec: ImageFolder, name: str, root: Path | None) -> DatasetScan:
        scans.append(name)
        return original_scan(spec, name, root)

    monkeypatch.setattr(ImageFile, "read", read)
    monkeypatch.setattr(ImageFolder, "scan", scan)
    monkeypatch.setattr(content, "_MIN_AGE_NS", -(10**18))
    method = replace(MethodFunctions(), load_backbone=lambda name, device: FakeEncoder(name))
    name = "image_folder:few"

    def start() -> tuple[int, int]:
        """Start a study, and return how many images it reads and how often it scans the folder."""
        reads.clear()
        scans.clear()
        prints = Fingerprints(method, tmp_path, tmp_path / "cache")
        prints.dataset_fingerprint(name)
        needs = [FeatureKey("b", "fp32", name, views) for views in (0, 2)]
        prepare_features(dict.fromkeys(needs, ()), prints, Console(quiet=True))
        return len(reads), len(scans)

    n_train, n_rest = 6, 6
    assert start() == (12 + 2 * n_train + n_rest, 1)  # val and test have no augmented views
    assert start() == (0, 1)
    save_image(tmp_path / "few" / "thing 0" / "3.png", 9)
    assert start() == (1 + 2 * n_train + n_rest, 1)


@pytest.mark.parametrize("gpus", [0, 1])
def test_dry_run_estimates_extraction(tmp_path: Path, gpus: int) -> None:
    """The line has the number of images and the time. There is none if the features are cached."""
    images = load_dataset("photos")
    splits = {
        split: Split(part.images[:6], part.labels[:6]) for split, part in images.splits.items()
    }
    few = replace(images, splits=splits)
    method = replace(
        MethodFunctions(),
        load_backbone=lambda name, device: FakeEncoder(name),
        load_dataset=lambda *_: few,
    )
    prints = Fingerprints(method, None, tmp_path / "cache")
    study = make_study()
    resources = study.resources.model_copy(update={"gpus": gpus})
    study = study.model_copy(update={"resources": resources})
    plan = make_plan(study, RunHistory(), make_prints(tmp_path))
    (line,) = format_extraction(study, plan, prints)
    assert "features of photos through pocket: 18 images to encode before the trials, " in line
    cpu_time = "s on this machine (estimated from a few images)"
    assert line.endswith("time unknown (not measured on GPUs)" if gpus else cpu_time)
    prepare_features(collect_needs(study), prints, Console(quiet=True))
    assert format_extraction(study, plan, prints) == []


def test_changed_weight_file_is_another_backbone(tmp_path: Path) -> None:
    """The remembered fingerprint is then no longer valid."""
    loaded: list[Any] = []

    def load(name: str, device: str) -> FakeClip:
        loaded.append(name)
        return FakeClip(f"{name}-{len(loaded)}")

    method = replace(make_method(tmp_path / "log"), load_backbone=load)
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"one")
    name = f"ViT-B-16:{weights}"

    def fingerprint() -> str:
        return Fingerprints(method, None, tmp_path / "cache").backbone_fingerprint(name)

    assert fingerprint() == fingerprint()
    weights.write_bytes(b"other")
    assert fingerprint().endswith("-2")


@given(damage=DAMAGE)
def test_damaged_fingerprint_file_is_ignored(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    """The backbone is loaded again, and its fingerprint is correct."""
    folder = tmp_path_factory.mktemp("memory")
    make_prints(folder).backbone_fingerprint("pocket")
    (path,) = folder.glob("cache/fingerprints/*")
    path.write_bytes(apply_damage(path.read_bytes(), damage))
    assert make_prints(folder).backbone_fingerprint("pocket") == "weights-of-pocket"


@pytest.mark.parametrize("resources", [{"gpus": 0.5}, {}])
def test_node_without_gpu_extracts_on_its_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resources: object
) -> None:
    """A run of the study would be refused there."""
    monkeypatch.setattr(features, "find_gpu_fault", lambda: "No CUDA GPUs are available")
    out = io.StringIO()
    prints = Fingerprints(make_method(tmp_path / "log"), None, tmp_path / "cache")
    study, console = make_study(resources=resources), Console(file=out, width=200)
    extract_missing_features(study, prints, console, verbose=False)
    assert (tmp_path / "log").read_text() == "extract photos\n"
