"""Few-shot images that a split file lists by seed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ship.datasets import DatasetError, ImageFolder, load_dataset, scan_dataset
from ship.protocol_rules import find_missing_data
from ship.subsets import FeatureSet, find_listed_rows, make_bare_features
from ship.trial_config import TrialConfig
from tests.ship.datasets.conftest import save_image

NAMES = ("ant", "bee", "cat", "dog")
NAME = "image_folder:pets"


def document(few_shot: Any = None, train: int = 4) -> dict[str, Any]:
    """A split file's content: four classes; `train` images for training, one each else."""
    parts: dict[str, Any] = {"train": [], "val": [], "test": []}
    for label, name in enumerate(NAMES):
        for split, n in {"train": train, "val": 1, "test": 1}.items():
            parts[split] += [[f"{name}/{split}{i}.png", label, name] for i in range(n)]
    return parts if few_shot is None else {**parts, "few_shot": few_shot}


def listed(*numbers: int) -> list[str]:
    """Paths of these training images of each class, in another order than the split's."""
    return [f"{name}/train{i}.png" for i in numbers for name in reversed(NAMES)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with the images."""
    for place, rows in enumerate(document().values()):
        for number, (path, _, _) in enumerate(rows):
            save_image(tmp_path / "pets" / path, 20 * place + number)
    return tmp_path


def folder(root: Path, content: Any) -> ImageFolder:
    """The options of an image folder with a split file of this content."""
    path = root / "mine.json"
    path.write_text(json.dumps(content))
    return ImageFolder(split=str(path))


def faults(root: Path, few_shot: Any) -> list[str]:
    """Faults of lists, without the file's name, with which each begins."""
    lines = scan_dataset(NAME, root, folder(root, document(few_shot))).faults
    assert all(line.startswith(f"{root / 'mine.json'}: ") for line in lines)
    return [line.partition("mine.json: ")[2] for line in lines]


def test_lists_are_read_by_seed_and_fingerprinted(root: Path) -> None:
    """Other lists are other data; the features in the cache stay valid."""
    plain = load_dataset(NAME, root, folder=folder(root, document()))
    lists = {"0": listed(0, 1), "7": listed(2, 3)}
    dataset = load_dataset(NAME, root, folder=folder(root, document(lists)))
    other = load_dataset(NAME, root, folder=folder(root, document({"0": listed(0, 2)})))
    assert dataset.few_shot == {0: tuple(listed(0, 1)), 7: tuple(listed(2, 3))}
    assert len({plain.fingerprint, dataset.fingerprint, other.fingerprint}) == 3
    assert plain.images_fingerprint == dataset.images_fingerprint == other.images_fingerprint
    assert not plain.few_shot


def features(root: Path, few_shot: Any) -> FeatureSet:
    """The dataset without features."""
    return make_bare_features(NAME, scan_dataset(NAME, root, folder(root, document(few_shot))))


def test_a_seed_trains_on_its_list(root: Path) -> None:
    """In the order of the split, restricted to classes, whatever is left out of the dataset."""
    scan = scan_dataset(NAME, root, folder(root, document({"3": listed(3, 1)})))
    whole = make_bare_features(NAME, scan)
    assert whole.draw(2, 3, np.arange(4)).tolist() == [1, 3, 5, 7, 9, 11, 13, 15]
    assert whole.draw(2, 3, np.array([2])).tolist() == [9, 11]
    part = whole.select_classes(np.array([3, 1]), None)
    assert [part.train_labels[row] for row in part.draw(2, 3, np.arange(2))] == [1, 1, 0, 0]
    assert part.draw(2, 3, np.arange(2)).tolist() == [1, 3, 5, 7]
    assert find_listed_rows(scan, np.arange(4, 12))[3].tolist() == [1, 3, 5, 7]
    assert whole.count_shots(np.arange(4), 2).tolist() == [2, 2, 2, 2]


def test_without_lists_images_are_drawn_as_before(root: Path) -> None:
    """By seed and class; the number per class is bounded by shots."""
    plain = features(root, None)
    drawn = plain.draw(2, 0, np.arange(4))
    assert len(drawn) == 8 and drawn.tolist() != plain.draw(2, 1, np.arange(4)).tolist()
    assert plain.count_shots(np.arange(4), 3).tolist() == [3, 3, 3, 3]
    assert plain.count_shots(np.arange(4), None).tolist() == [4, 4, 4, 4]


def test_all_faults_of_lists_are_reported_at_once(root: Path) -> None:
    """Images that are listed twice, or not for training, and classes without an image."""
    lists = {"0": [*listed(0), "ant/train0.png", "ant/test0.png"], "1": listed(0)[:2]}
    assert faults(root, lists) == [
        "1 image more than once in the few_shot list of seed 0: ant/train0.png",
        "1 image in the few_shot list of seed 0, but not in train: ant/test0.png",
        "2 classes without an image in the few_shot list of seed 1: ant, bee",
    ]
    wrong = {
        "0": [*listed(0), "x.png"],
        "-1": listed(0),
        "01": listed(0),
        "2": "ant/train0.png",
        "3": [],
        "4": [1],
    }
    assert faults(root, wrong) == [
        "2 invalid seeds of few_shot (use 0 to 999999999, without leading zeros): -1, 01",
        "3 seeds of few_shot without a non-empty list of paths: 2, 3, 4",
        "1 image in the few_shot list of seed 0, but not in train: x.png",
    ]
    assert faults(root, [1]) == [
        "few_shot must be a JSON object that maps each seed to a list of paths"
    ]
    with pytest.raises(DatasetError):
        load_dataset(NAME, root, folder=folder(root, document([1])))


_KEYS = st.sampled_from(["0", "1", "01", "x", "", "9" * 30])
_JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.sampled_from(listed(0))
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(few_shot=_JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_lists_are_few_shot_images_or_faults(few_shot: Any, root: Path) -> None:
    """Any JSON gives lists of training images of every class, or a fault."""
    scan = scan_dataset(NAME, root, folder(root, {**document(), "few_shot": few_shot}))
    if not scan.faults:
        bare = make_bare_features(NAME, scan)
        for rows in bare.few_shot.values():
            assert {*bare.train_labels[rows].tolist()} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("seeds", "shots", "expected"),
    [
        ([0, 1], 2, []),
        ([0], None, []),
        ([0, 1, 2, 5], 2, ["its split file lists none for seeds 2, 5. Use listed seeds: 0, 1"]),
        ([0], 4, ["lists of 4 images per class, but the lists have at most 2. Use shots: 2"]),
        ([9], 16, ["lists none for seed 9", "Use shots: 2"]),
    ],
)
def test_a_study_needs_the_lists_of_its_seeds(
    seeds: list[int], shots: int | None, expected: list[str], root: Path
) -> None:
    """All seeds must be listed, and `shots` must be what the lists have."""
    bare = features(root, {"0": listed(0, 1), "1": listed(2, 3)})
    config = TrialConfig(dataset=NAME, shots=shots)
    missing = [*find_missing_data(config, bare, seeds).values()]
    assert len(missing) == len(expected)
    for line, part in zip(missing, expected, strict=True):
        assert part in line
