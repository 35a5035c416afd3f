"""Files of a trained setting that were cut, flipped or written by others: an error, or a model."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import ship
from ship.clip import FrozenCLIP
from ship.trial import TrainedError
from ship.trial.trained import digest
from tests.damage import DAMAGE, Damage, damaged
from tests.ship.trial.trained.conftest import FINETUNERS
from tests.ship.trial.trained.made import SAID, SEED, Sound, write

ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=5),
    st.integers(-3, 40),
    st.sampled_from(
        [10**9, 10**30, -(10**30), 1e308, "", "../x.safetensors", "a{}", "{0.__class__}", [], {}]
    ),
    st.lists(st.integers(0, 3), max_size=3),
)
# a place in the JSON: at each level one of the keys or items, by number
PATHS = st.lists(st.integers(0, 30), min_size=1, max_size=4)


def use(tmp_path: Path, clip: FrozenCLIP) -> None:
    """A model that works, or one line that says what is wrong with which file."""
    try:
        loaded = ship.load_trained(tmp_path, clip=clip)
        assert loaded.logits(torch.eye(2, clip.feature_dim)).shape == (2, len(loaded.class_names))
        if loaded.notes == ():
            assert loaded.features(["zeppelin"], 2)[0].shape == (2, clip.feature_dim)
    except TrainedError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 1500
        assert str(error).startswith(str(tmp_path)) and "; " in str(error)


def fitting(sound: Sound, name: str, data: bytes) -> bytes:
    """A trained.json with the digest of a seed's file."""
    said = json.loads(sound[name][SAID])
    said["seeds"][0]["blake2b"] = digest(data)
    return json.dumps(said).encode()


@given(damage=DAMAGE, behind=st.binary(max_size=9))
def test_a_file_that_was_cut_or_flipped_is_named(
    tmp_path: Path, sound: Sound, clip: FrozenCLIP, damage: Damage, behind: bytes
) -> None:
    """Either one; no other numbers come of it, also where the digest fits."""
    whole = sound["coop"]
    said, seed = (damaged(whole[name], damage) + behind for name in (SAID, SEED))
    use(write(tmp_path, said, whole[SEED]), clip)
    use(write(tmp_path, fitting(sound, "coop", seed), seed), clip)
    if seed != whole[SEED]:
        with pytest.raises(TrainedError, match=r"is not the file that trained\.json is about"):
            ship.load_trained(write(tmp_path, whole[SAID], seed), clip=clip)


def changed(said: Any, path: list[int], value: Any) -> Any:
    """A JSON in which the value at a path is another."""
    root = {"": copy.deepcopy(said)}
    holder, key = root, ""
    for number in path:
        inner: Any = holder[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        holder = inner
        key = list(inner)[number % len(inner)] if isinstance(inner, dict) else number % len(inner)
    holder[key] = value
    return root[""]


@given(name=st.sampled_from(FINETUNERS), path=PATHS, value=ANY)
def test_whatever_trained_json_says(
    tmp_path: Path, sound: Sound, clip: FrozenCLIP, name: str, path: list[int], value: Any
) -> None:
    """One value is any other: it is refused, or is a model of the size of the file."""
    said = changed(json.loads(sound[name][SAID]), path, value)
    use(write(tmp_path, json.dumps(said).encode(), sound[name][SEED]), clip)


def other(value: Tensor) -> list[Tensor]:
    """A tensor of another shape, kind or content."""
    return [
        value.reshape(-1),
        value[:, :0],
        torch.cat([value, value]),
        value.to(torch.float16),
        value.long(),
        torch.full_like(value, 99),
        torch.zeros(()),
        value.double() * torch.inf,
    ]


@given(name=st.sampled_from(FINETUNERS), which=st.integers(0, 30), how=st.integers(0, 8))
def test_whatever_the_tensors_are(
    tmp_path: Path, sound: Sound, clip: FrozenCLIP, name: str, which: int, how: int
) -> None:
    """One is another, or is missing: they fit what is built, or are refused."""
    tensors = safetensors.torch.load(sound[name][SEED])
    key = sorted(tensors)[which % len(tensors)]
    choices = other(tensors.pop(key))
    if how < len(choices):
        tensors[key] = choices[how].contiguous()
    data = safetensors.torch.save(tensors)
    use(write(tmp_path, fitting(sound, name, data), data), clip)
