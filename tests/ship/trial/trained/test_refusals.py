"""What is refused when something that was trained is loaded, and in which words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ship
from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.trial import TrainedError
from ship.trial.trained import read
from tests.ship.trial.trained.made import SAID, SEED, Sound, small, write


def edited(change: Callable[[Any], None]) -> Callable[[Sound], tuple[bytes, bytes]]:
    """Files whose trained.json was changed."""

    def made(sound: Sound) -> tuple[bytes, bytes]:
        said = json.loads(sound["coop"][SAID])
        change(said)
        return json.dumps(said).encode(), sound["coop"][SEED]

    return made


MISTAKES: list[tuple[str, Callable[[Any], None], str]] = [
    ("sizes", lambda s: s["settings"]["generator"].update(generator_hidden=10**9), "more weights"),
    (
        "a net's sizes",
        lambda s: s["settings"].update(finetuner={"name": "tcp", "n_ctx": 10**9}),
        "more weights",
    ),
    ("format", lambda s: s.update(format=2), "trained.json: format: Input should be 1"),
    ("version", lambda s: s.update(results_version=1), "is of results version 1, this is"),
    ("backbone", lambda s: s.update(backbone_fingerprint="0" * 32), "load the weights that it was"),
    (
        "a backbone with control characters",
        lambda s: s.update(backbone_fingerprint="\n\x1b[2J\x1e"),
        r"of fingerprint '\n\x1b[2J\x1e', and this one is",
    ),
    ("precision", lambda s: s["settings"].update(precision="bf16"), "load it in bf16"),
    ("place", lambda s: s["seeds"][0].update(file="../a.safetensors"), "in the same folder"),
    ("template", lambda s: s.update(template="{0.__class__} {}{}"), "must have one {}"),
    ("classes", lambda s: s["tasks"][0]["new"].append("x"), "text features of task 0 are [8, 16]"),
    ("task", lambda s: s["models"][0].update(task=7), "names a task that it does not have"),
    (
        "left out",
        lambda s: s["seeds"][0].update(blake2b="", bytes=10**8),
        "was not kept, as it has",
    ),
    ("choice", lambda s: s["seeds"][0].update(choice={"alpha": 1.0}), "takes no choice of"),
    (
        "words",
        lambda s: s["settings"]["finetuner"].update(ctx_init="x" * 1001),
        "ctx_init has more than 1000 characters",
    ),
]


@pytest.mark.parametrize(
    ("change", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_each_refusal_says_why(
    place: Path, sound: Sound, clip: FrozenCLIP, change: Callable[[Any], None], words: str
) -> None:
    """In one line that names the file."""
    folder = write(place, *edited(change)(sound))
    with pytest.raises(TrainedError) as refused:
        ship.load_trained(folder, clip=clip)
    assert str(refused.value).startswith(str(folder))
    assert len(str(refused.value).splitlines()) == 1
    assert words in str(refused.value)


def test_a_backbone_that_a_file_names_by_a_path_is_not_loaded(place: Path, sound: Sound) -> None:
    """It could be an archive, which torch would run."""

    def name(said: Any) -> None:
        said["settings"]["backbone"] = f"ViT-B-32:{place / 'evil.pt'}"

    (place / "evil.pt").write_bytes(b"x")
    folder = write(place, *edited(name)(sound))
    with pytest.raises(TrainedError, match=r"has no published weights; .* clip=FrozenCLIP\.load"):
        ship.load_trained(folder)


def test_a_file_that_is_too_large_is_not_read(
    place: Path, sound: Sound, clip: FrozenCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is in it."""
    folder = write(place, sound["coop"][SAID], sound["coop"][SEED])
    monkeypatch.setattr(read, "MOST_TENSORS", 1000)
    with pytest.raises(TrainedError, match="has more than 1000 bytes"):
        ship.load_trained(folder, clip=clip)


def test_a_seed_and_a_folder_that_are_not_there(
    place: Path, sound: Sound, clip: FrozenCLIP
) -> None:
    """The error lists the seeds; of a wrong folder it says which one is meant."""
    folder = write(place, sound["coop"][SAID], sound["coop"][SEED])
    with pytest.raises(TrainedError, match=r"trained\.json: has no seed 7; choices: 0, 3"):
        ship.load_trained(folder, 7, clip=clip)
    with pytest.raises(TrainedError, match="is of seed 0, not 3; name the folder"):
        ship.load_trained(folder / SEED, 3, clip=clip)
    with pytest.raises(TrainedError, match="there is no such file; name the folder `trained`"):
        ship.load_trained(folder / "nowhere", clip=clip)


def test_what_is_too_large_is_left_out_and_said(
    clip: FrozenCLIP, features: FeatureSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run keeps what the outbox can hold."""
    from ship.trial.trained import keep

    monkeypatch.setattr(keep, "MOST_TENSORS", 1000)
    folder = small(tmp_path / "trained", features, clip)
    assert [path.name for path in folder.iterdir()] == [SAID]
    said = json.loads((folder / SAID).read_text())
    assert said["notes"] == ["seeds 0, 3: larger than 1000 bytes, not kept"]
    with pytest.raises(TrainedError, match="was not kept, as it has"):
        ship.load_trained(folder, clip=clip)
