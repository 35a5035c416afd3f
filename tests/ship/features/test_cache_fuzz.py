"""Caches and shards that were cut, flipped, replaced or swapped: sound features, or none."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ship.datasets import PictureDataset
from ship.features.cache import cache_key, read_features, write_features
from ship.features.feature_set import FeatureSet, extract_features
from tests.ship.features.interrupted import interrupted, shard_files
from tests.ship.streamed import VIEWS, SlowEncoder, digest, preprocess

KEY, OTHER = cache_key({"what": "this"}), cache_key({"what": "that"})
ARRAY = np.random.default_rng(0).standard_normal((6, 2, 4)).astype(np.float32)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from([2**63, 10**30, -1, 6, 2.0, "6"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)  # fmt: skip
_FIELDS = st.sampled_from(["format", "key", "arrays", "x.npy", "shape", "dtype", "blake2b"])
_FLIPS = st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4)


Sound = tuple[bytes, bytes]
"""The files of ARRAY: the array's, and its JSON."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """Files that hold ARRAY."""
    path = tmp_path_factory.mktemp("sound") / "x.npy"
    write_features(path, KEY, ARRAY)
    return path.read_bytes(), path.with_suffix(".json").read_bytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the damaged files are written."""
    return tmp_path_factory.mktemp("damaged") / "x.npy"


def check(path: Path, content: Sound, sound: Sound) -> None:
    """The files are read as ARRAY where they are the sound ones, and not at all elsewhere."""
    path.write_bytes(content[0])
    path.with_suffix(".json").write_bytes(content[1])
    found = read_features(path, KEY, (6, 2, None))
    if content == sound:
        assert found is not None
        assert np.array_equal(found, ARRAY)
    else:
        assert found is None


@given(flips=_FLIPS)
def test_flipped_bytes(path: Path, sound: Sound, flips: list[tuple[int, int]]) -> None:
    """No change of bytes, anywhere in the two files, gives another array."""
    content = bytearray(b"".join(sound))
    for place, bits in flips:
        content[place % len(content)] ^= bits
    at = len(sound[0])
    check(path, (bytes(content[:at]), bytes(content[at:])), sound)


@given(kept=st.integers(0), appended=st.binary(max_size=40))
def test_cut_files(path: Path, sound: Sound, kept: int, appended: bytes) -> None:
    """No cut and nothing that is put behind gives another array."""
    array, said = (whole[: kept % (len(whole) + 1)] + appended for whole in sound)
    check(path, (array, sound[1]), sound)
    check(path, (sound[0], said), sound)


@example("shape", [2, 6, 4])
@example("shape", [-1, 2, 4])
@example("shape", [6.0, 2, 4])
@example("shape", [6, 2, 2, 2])
@example("shape", [2**70, 0])
@given(field=_FIELDS, value=_JSON)
def test_a_json_that_lies(path: Path, sound: Sound, field: str, value: Any) -> None:
    """No JSON in which one value is any other gives another shape, or raises."""
    said = json.loads(sound[1])
    for holder in (said, said["arrays"], said["arrays"]["x.npy"]):
        if field in holder:
            holder[field] = value
            break
    check(path, (sound[0], json.dumps(said, indent=1).encode()), sound)


def test_a_json_of_absurd_length(path: Path, sound: Sound) -> None:
    """Megabytes of brackets are refused without a traceback."""
    check(path, (sound[0], b"[" * (1 << 22)), sound)


def test_an_array_with_another_shape_is_not_used(path: Path) -> None:
    """A file of the right key with fewer rows than there are pictures is no answer."""
    write_features(path, KEY, ARRAY)
    assert read_features(path, KEY, (6, 2, None)) is not None
    assert read_features(path, KEY, (5, 2, None)) is None
    assert read_features(path, KEY, (None, None)) is None


def one_warning_a_file(caplog: pytest.LogCaptureFixture, files: list[Path]) -> None:
    """Each file is named once, in one line."""
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(files)
    for file in files:
        assert sum(str(file) in line for line in lines) == 1
    assert all("extracting again" in line and "\n" not in line for line in lines)


def swap(a: Path, b: Path) -> None:
    """Each file's content under the other's name."""
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)


@pytest.mark.parametrize("swapped", ["the array alone", "both files"])
def test_swapped_caches_are_extracted_anew(
    streamed: PictureDataset,
    plain: FeatureSet,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    swapped: str,
) -> None:
    """Files of two backbones under each other's names: no number of one gets into the other."""
    other = SlowEncoder(fingerprint="s1", name="other", preprocess=lambda x: 1 - preprocess(x))
    extract_features(SlowEncoder(), streamed, VIEWS, tmp_path)
    first = set(tmp_path.glob("*.npy"))
    extract_features(other, streamed, VIEWS, tmp_path)
    second = {file for file in tmp_path.glob("*.npy") if file not in first}
    pairs = [
        (file, next(other for other in second if f"other-{split}" in other.name))
        for split in ("train", "val", "test")
        for file in first
        if f"slow-{split}" in file.name
    ]
    assert len(pairs) == 3
    for a, b in pairs:
        swap(a, b)
        if swapped == "both files":
            swap(a.with_suffix(".json"), b.with_suffix(".json"))
    with caplog.at_level(logging.WARNING):
        found = extract_features(SlowEncoder(), streamed, VIEWS, tmp_path)
    assert digest(found) == digest(plain)
    one_warning_a_file(caplog, [a for a, _ in pairs])


def test_damaged_and_swapped_shards_are_encoded_anew(
    streamed: PictureDataset, plain: FeatureSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One shard has a flipped bit, another its neighbour's content: both are made again."""
    interrupted(streamed, tmp_path, 2 * 128 * (1 + VIEWS) + 1)
    first, second = shard_files(tmp_path)
    content = bytearray(first.read_bytes())
    second.write_bytes(content)
    content[-5] ^= 4
    first.write_bytes(content)
    encoder = SlowEncoder()
    with caplog.at_level(logging.WARNING):
        found = extract_features(encoder, streamed, VIEWS, tmp_path)
    assert digest(found) == digest(plain)
    assert encoder.encoded == sum(map(math.prod, ((301, 1 + VIEWS), (3, 1), (5, 1))))
    one_warning_a_file(caplog, [first, second])
