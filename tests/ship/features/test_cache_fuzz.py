"""Caches and shards that were cut, flipped, replaced or swapped: sound features, or none."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ship.datasets import PictureDataset
from ship.features.cache import cache_key, read_features, write_features
from ship.features.feature_set import FeatureSet, extract_features
from tests.ship.features.interrupted import interrupted, shard_files
from tests.ship.streamed import VIEWS, SlowEncoder, digest, streamed_dataset

KEY, OTHER = cache_key({"what": "this"}), cache_key({"what": "that"})
ARRAY = np.random.default_rng(0).standard_normal((6, 2, 4)).astype(np.float32)

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
    | st.sampled_from([2**63, 10**30, -1, 6, 2.0, "6"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)  # fmt: skip
_FIELDS = st.sampled_from(
    ["__metadata__", "features", "key", "checksum", "dtype", "shape", "data_offsets"]
)
_FLIPS = st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file that holds ARRAY."""
    path = tmp_path_factory.mktemp("sound") / "x"
    write_features(path, KEY, ARRAY)
    return path.read_bytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the damaged files are written."""
    return tmp_path_factory.mktemp("damaged") / "x"


def check(path: Path, content: bytes, sound: bytes) -> None:
    """The file is read as ARRAY where it is the sound one, and not at all where it is not."""
    path.write_bytes(content)
    found = read_features(path, KEY, (6, 2, None))
    if content == sound:
        assert found is not None
        assert np.array_equal(found, ARRAY)
    else:
        assert found is None


def check_flips(path: Path, sound: bytes, flips: list[tuple[int, int]]) -> None:
    """Bytes that differ anywhere."""
    content = bytearray(sound)
    for place, bits in flips:
        content[place % len(content)] ^= bits
    check(path, bytes(content), sound)


def check_cut(path: Path, sound: bytes, kept: int, appended: bytes) -> None:
    """A file that ends too early, with or without something else behind."""
    check(path, sound[: kept % (len(sound) + 1)] + appended, sound)


def check_header(path: Path, sound: bytes, field: str, value: Any) -> None:
    """A header whose length is right and in which one value is any JSON."""
    start = 8 + int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8:start])
    for holder in (header, header["__metadata__"], header["features"]):
        if field in holder:
            holder[field] = value
            break
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    check(path, len(text).to_bytes(8, "little") + text + sound[start:], sound)


quick = settings(max_examples=150, deadline=None, derandomize=True)
deep = settings(max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(flips=_FLIPS)
def test_flipped_bytes(path: Path, sound: bytes, flips: list[tuple[int, int]]) -> None:
    """No change of bytes gives another array."""
    check_flips(path, sound, flips)


@quick
@given(kept=st.integers(0), appended=st.binary(max_size=40))
def test_cut_files(path: Path, sound: bytes, kept: int, appended: bytes) -> None:
    """No cut and nothing that is put behind gives another array."""
    check_cut(path, sound, kept, appended)


@quick
@example("shape", [2, 6, 4])
@example("shape", [-1, 2, 4])
@example("shape", [6.0, 2, 4])
@example("shape", [6, 2, 2, 2])
@example("shape", [2**70, 0])
@given(field=_FIELDS, value=_JSON)
def test_headers_that_lie(path: Path, sound: bytes, field: str, value: Any) -> None:
    """No header gives the data another shape, or raises."""
    check_header(path, sound, field, value)


@pytest.mark.slow
@deep
@given(flips=_FLIPS, kept=st.integers(0), appended=st.binary(max_size=40))
def test_damage_at_length(
    path: Path, sound: bytes, flips: list[tuple[int, int]], kept: int, appended: bytes
) -> None:
    """As above, many times."""
    check_flips(path, sound, flips)
    check_cut(path, sound, kept, appended)


@pytest.mark.slow
@deep
@given(field=_FIELDS, value=_JSON)
def test_headers_at_length(path: Path, sound: bytes, field: str, value: Any) -> None:
    """As above, many times."""
    check_header(path, sound, field, value)


def test_a_header_of_absurd_depth(path: Path) -> None:
    """Brackets up to the longest header are refused without a traceback."""
    text = b"[" * (1 << 20)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert read_features(path, KEY) is None


def test_an_array_with_another_shape_is_not_used(path: Path) -> None:
    """A file of the right key with fewer rows than there are pictures is no answer."""
    write_features(path, KEY, ARRAY)
    assert read_features(path, KEY, (6, 2, None)) is not None
    assert read_features(path, KEY, (5, 2, None)) is None
    assert read_features(path, KEY, (None, None)) is None


@pytest.fixture(scope="module")
def dataset() -> PictureDataset:
    """Three shards of training pictures."""
    return streamed_dataset()


@pytest.fixture(scope="module")
def plain(dataset: PictureDataset, tmp_path_factory: pytest.TempPathFactory) -> FeatureSet:
    """What an extraction gives that nothing disturbs."""
    return extract_features(SlowEncoder(), dataset, VIEWS, tmp_path_factory.mktemp("plain"))


def one_warning_a_file(caplog: pytest.LogCaptureFixture, files: list[Path]) -> None:
    """Each file is named once, in one line."""
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(files)
    for file in files:
        assert sum(str(file) in line for line in lines) == 1
    assert all("extracting again" in line and "\n" not in line for line in lines)


def test_swapped_caches_are_extracted_anew(
    dataset: PictureDataset, plain: FeatureSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files of two backbones under each other's names: no number of one gets into the other."""
    other = SlowEncoder(fingerprint="s1", name="other")
    extract_features(SlowEncoder(), dataset, VIEWS, tmp_path)
    first = set(tmp_path.iterdir())
    extract_features(other, dataset, VIEWS, tmp_path)
    pairs = [
        (file, next(f for f in set(tmp_path.iterdir()) - first if f"other-{split}" in f.name))
        for split in ("train", "val", "test")
        for file in first
        if f"slow-{split}" in file.name
    ]
    assert len(pairs) == 3
    for a, b in pairs:
        one, two = a.read_bytes(), b.read_bytes()
        a.write_bytes(two)
        b.write_bytes(one)
    with caplog.at_level(logging.WARNING):
        found = extract_features(SlowEncoder(), dataset, VIEWS, tmp_path)
    assert digest(found) == digest(plain)
    one_warning_a_file(caplog, [a for a, _ in pairs])


def test_damaged_and_swapped_shards_are_encoded_anew(
    dataset: PictureDataset, plain: FeatureSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One shard has a flipped bit, another its neighbour's content: both are made again."""
    interrupted(dataset, tmp_path, 2 * 128 * (1 + VIEWS) + 1)
    first, second = shard_files(tmp_path)
    content = bytearray(first.read_bytes())
    second.write_bytes(content)
    content[-5] ^= 4
    first.write_bytes(content)
    encoder = SlowEncoder()
    with caplog.at_level(logging.WARNING):
        found = extract_features(encoder, dataset, VIEWS, tmp_path)
    assert digest(found) == digest(plain)
    assert encoder.encoded == sum(map(math.prod, ((301, 1 + VIEWS), (3, 1), (5, 1))))
    one_warning_a_file(caplog, [first, second])
