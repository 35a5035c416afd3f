"""What is refused when something that was trained is loaded, and in which words."""

import json
from pathlib import Path
from typing import Any

import pytest

import ship
from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from ship.trial import TrainedError, trained
from tests.ship.trial.trained.made import SAID, SEED, Sound, small, write
from tests.told import put, told


def edited(sound: Sound, edits: dict[str, Any]) -> tuple[bytes, bytes]:
    """Files in whose trained.json something else stands at some places."""
    said = json.loads(sound["coop"][SAID])
    for where, value in edits.items():
        put(said, where, "x" * 1001 if value == "LONG" else value)
    return json.dumps(said).encode(), sound["coop"][SEED]


@pytest.mark.parametrize("mistake", told(__file__, "mistakes.yaml"), ids=str)
def test_each_refusal_says_why(
    tmp_path: Path, sound: Sound, clip: FrozenCLIP, mistake: dict[str, Any]
) -> None:
    """In one line that names the file."""
    folder = write(tmp_path, *edited(sound, mistake["put"]))
    with pytest.raises(TrainedError) as refused:
        ship.load_trained(folder, clip=clip)
    assert str(refused.value).startswith(str(folder))
    assert len(str(refused.value).splitlines()) == 1
    assert mistake["words"] in str(refused.value)


def test_a_backbone_that_a_file_names_by_a_path_is_not_loaded(tmp_path: Path, sound: Sound) -> None:
    """It could be an archive, which torch would run."""
    (tmp_path / "evil.pt").write_bytes(b"x")
    backbone = f"ViT-B-32:{tmp_path / 'evil.pt'}"
    folder = write(tmp_path, *edited(sound, {"settings.backbone": backbone}))
    with pytest.raises(TrainedError, match=r"has no published weights; .* clip=FrozenCLIP\.load"):
        ship.load_trained(folder)


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, sound: Sound, clip: FrozenCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is in it."""
    folder = write(tmp_path, sound["coop"][SAID], sound["coop"][SEED])
    monkeypatch.setattr(trained, "MOST_TENSORS", 1000)
    with pytest.raises(TrainedError, match="has more than 1000 bytes"):
        ship.load_trained(folder, clip=clip)


def test_a_seed_and_a_folder_that_are_not_there(
    tmp_path: Path, sound: Sound, clip: FrozenCLIP
) -> None:
    """The error lists the seeds; of a wrong folder it says which one is meant."""
    folder = write(tmp_path, sound["coop"][SAID], sound["coop"][SEED])
    with pytest.raises(TrainedError, match=r"trained\.json: has no seed 7; choices: 0, 3"):
        ship.load_trained(folder, 7, clip=clip)
    with pytest.raises(TrainedError, match="is of seed 0, not 3; name the folder"):
        ship.load_trained(folder / SEED, 3, clip=clip)
    with pytest.raises(TrainedError, match="No such file or directory; name the folder `trained`"):
        ship.load_trained(folder / "nowhere", clip=clip)


def test_what_is_too_large_is_left_out_and_said(
    clip: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run keeps what can wait for a store that is away."""
    monkeypatch.setattr(trained, "MOST_TENSORS", 1000)
    folder = small(tmp_path / "trained", features, clip)
    assert [path.name for path in folder.iterdir()] == [SAID]
    said = json.loads((folder / SAID).read_text())
    assert said["notes"] == ["seeds 0, 3: larger than 1000 bytes, not kept"]
    with pytest.raises(TrainedError, match="was not kept, as it has"):
        ship.load_trained(folder, clip=clip)
