"""Damaged or forged files of a trained model are loaded or refused with a message."""

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
from ship.checksum import add_checksum, compute_checksum, strip_checksum
from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from ship.trial import TrainedError, trained
from tests.case_files import load_cases, set_value
from tests.damage import DAMAGE, Damage, apply_damage
from tests.ship.finetuners.cases import FAST
from tests.ship.trial.trained.saved_models import (
    MANIFEST,
    SEED,
    SavedFiles,
    save_small_models,
    write_model,
)

FINETUNERS = ("coop", "tip_adapter_f", "gda", "zero_shot")


@pytest.fixture(scope="module")
def saved_files(
    tmp_path_factory: pytest.TempPathFactory, clip: FrozenCLIP, features: FeatureSet
) -> SavedFiles:
    """Return the files of a short trial for each of some fine-tuners."""
    result = SavedFiles()
    for name in FINETUNERS:
        folder = tmp_path_factory.mktemp(name) / "trained"
        finetuner = {"name": name, **FAST.get(name, {})}
        save_small_models(folder, features, clip, finetuner=finetuner)
        result[name] = {file: (folder / file).read_bytes() for file in (MANIFEST, SEED)}
    return result


def parse_manifest(saved_files: SavedFiles, name: str) -> Any:
    """Return the content of the trained.json of a fine-tuner."""
    return json.loads(strip_checksum(saved_files[name][MANIFEST]))


def edit_manifest(saved_files: SavedFiles, edits: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return the files of CoOp's model, with these values in trained.json by their path."""
    content = parse_manifest(saved_files, "coop")
    for path, value in edits.items():
        set_value(content, path, "x" * 1001 if value == "LONG" else value)
    return add_checksum(content), saved_files["coop"][SEED]


@pytest.mark.parametrize("mistake", load_cases(__file__, "mistakes.yaml"), ids=str)
def test_unusable_trained_files_are_one_line(
    tmp_path: Path, saved_files: SavedFiles, clip: FrozenCLIP, mistake: dict[str, Any]
) -> None:
    """The line begins with the path and contains the reason."""
    folder = write_model(tmp_path, *edit_manifest(saved_files, mistake["put"]))
    with pytest.raises(TrainedError) as refused:
        ship.load_trained(folder, clip=clip)
    assert str(refused.value).startswith(str(folder))
    assert len(str(refused.value).splitlines()) == 1
    assert mistake["words"] in str(refused.value)


def test_error_names_the_requested_seed_or_plugin_and_that_of_the_file(
    tmp_path: Path, saved_files: SavedFiles, clip: FrozenCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message says which of the two values is which."""
    write_model(tmp_path, saved_files["coop"][MANIFEST], saved_files["coop"][SEED])
    with pytest.raises(TrainedError) as raised:
        ship.load_trained(tmp_path / SEED, 3, clip=clip)
    message = "contains seed 0, but seed 3 was requested; pass the folder instead"
    assert str(raised.value) == f"{tmp_path / SEED}: {message}"
    write_model(tmp_path, *edit_manifest(saved_files, {"plugins": {"finetuner coop": "mine 1"}}))
    plugins = {"finetuner coop": "mine 2"}
    monkeypatch.setattr(trained, "find_plugin_identities", lambda *_: plugins)
    with pytest.raises(TrainedError) as raised:
        ship.load_trained(tmp_path, clip=clip)
    fault = "was trained with finetuner coop of plugin 'mine 1', but the loaded plugin is 'mine 2'"
    advice = "load the same plugin, or train again"
    assert str(raised.value) == f"{tmp_path / MANIFEST}: {fault}; {advice}"


def test_backbone_path_in_a_file_is_not_loaded(tmp_path: Path, saved_files: SavedFiles) -> None:
    """It could be an archive, whose code torch would execute."""
    (tmp_path / "evil.pt").write_bytes(b"x")
    backbone = f"ViT-B-32:{tmp_path / 'evil.pt'}"
    folder = write_model(tmp_path, *edit_manifest(saved_files, {"settings.backbone": backbone}))
    message = r"neither published by open_clip nor cached; .* clip=FrozenCLIP\.load"
    with pytest.raises(TrainedError, match=message):
        ship.load_trained(folder)


def test_too_large_trained_file_is_not_read(
    tmp_path: Path, saved_files: SavedFiles, clip: FrozenCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size alone is a reason to refuse it."""
    folder = write_model(tmp_path, saved_files["coop"][MANIFEST], saved_files["coop"][SEED])
    monkeypatch.setattr(trained, "MAX_SEED_FILE_BYTES", 1000)
    with pytest.raises(TrainedError, match="has more than 1000 bytes"):
        ship.load_trained(folder, clip=clip)


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
# position of a value in the JSON: the number of a key or an item at each level
PATHS = st.lists(st.integers(0, 30), min_size=1, max_size=4)


def check_model_or_error(tmp_path: Path, clip: FrozenCLIP) -> None:
    """Check that a model can be loaded and used, or that the error is one line with its file."""
    try:
        loaded = ship.load_trained(tmp_path, clip=clip)
        assert loaded.logits(torch.eye(2, clip.feature_dim)).shape == (2, len(loaded.class_names))
        if loaded.notes == ():
            assert loaded.features(["zeppelin"], 2)[0].shape == (2, clip.feature_dim)
    except TrainedError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 1500
        assert str(error).startswith(str(tmp_path)) and "; " in str(error)


def make_matching_manifest(saved_files: SavedFiles, name: str, data: bytes) -> bytes:
    """Return a trained.json that has the checksum of this content of the seed's file."""
    content = parse_manifest(saved_files, name)
    content["seeds"][0]["blake2b"] = compute_checksum(data)
    return add_checksum(content)


@given(damage=DAMAGE, appended=st.binary(max_size=9))
def test_damaged_trained_files_are_rejected(
    tmp_path: Path, saved_files: SavedFiles, clip: FrozenCLIP, damage: Damage, appended: bytes
) -> None:
    """A damaged seed file does not match trained.json. With a forged checksum it is validated."""
    intact = saved_files["coop"]
    manifest = apply_damage(intact[MANIFEST], damage) + appended
    seed = apply_damage(intact[SEED], damage) + appended
    check_model_or_error(write_model(tmp_path, manifest, intact[SEED]), clip)
    matching_manifest = make_matching_manifest(saved_files, "coop", seed)
    check_model_or_error(write_model(tmp_path, matching_manifest, seed), clip)
    if seed != intact[SEED]:
        with pytest.raises(TrainedError, match=r"does not match trained\.json"):
            ship.load_trained(write_model(tmp_path, intact[MANIFEST], seed), clip=clip)


def replace_value(content: Any, path: list[int], value: Any) -> Any:
    """Return a copy of JSON data in which the value at a path is replaced.

    The path ends early at a value that has no items.
    """
    root = {"": copy.deepcopy(content)}
    owner, key = root, ""
    for number in path:
        inner: Any = owner[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        owner = inner
        key = list(inner)[number % len(inner)] if isinstance(inner, dict) else number % len(inner)
    owner[key] = value
    return root[""]


@given(name=st.sampled_from(FINETUNERS), path=PATHS, value=ANY)
def test_random_manifests_are_models_or_errors(
    tmp_path: Path,
    saved_files: SavedFiles,
    clip: FrozenCLIP,
    name: str,
    path: list[int],
    value: Any,
) -> None:
    """A changed value results in an error or in a model that can be used."""
    content = replace_value(parse_manifest(saved_files, name), path, value)
    folder = write_model(tmp_path, add_checksum(content), saved_files[name][SEED])
    check_model_or_error(folder, clip)


def make_changed_tensors(value: Tensor) -> list[Tensor]:
    """Return tensors that differ from this one in shape, type or content."""
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


@given(
    name=st.sampled_from(FINETUNERS),
    tensor_index=st.integers(0, 30),
    change_index=st.integers(0, 8),
)
def test_random_tensors_are_models_or_errors(
    tmp_path: Path,
    saved_files: SavedFiles,
    clip: FrozenCLIP,
    name: str,
    tensor_index: int,
    change_index: int,
) -> None:
    """A changed or missing tensor results in an error or in a model that can be used."""
    tensors = safetensors.torch.load(saved_files[name][SEED])
    key = sorted(tensors)[tensor_index % len(tensors)]
    choices = make_changed_tensors(tensors.pop(key))
    if change_index < len(choices):
        tensors[key] = choices[change_index].contiguous()
    data = safetensors.torch.save(tensors)
    manifest = make_matching_manifest(saved_files, name, data)
    check_model_or_error(write_model(tmp_path, manifest, data), clip)
