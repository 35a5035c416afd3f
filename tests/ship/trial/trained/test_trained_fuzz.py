"""Files of a trained setting that were cut, flipped or written by others: an error, or a model."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import ship
from ship.clip.frozen_clip import FrozenCLIP
from ship.features.feature_set import FeatureSet
from ship.trial import TrainedError
from ship.trial.trained import read
from ship.trial.trained.keep import digest
from tests.ship.finetuners.cases import FAST
from tests.ship.trial.trained.made import small

SAID, SEED = "trained.json", "seed_0.safetensors"
FINETUNERS = ("coop", "tip_adapter_f", "gda", "zero_shot")
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
quick = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
deep = settings(quick, max_examples=3000, derandomize=False)
# a place in the JSON: at each level one of the keys or items, by number
PATHS = st.lists(st.integers(0, 30), min_size=1, max_size=4)
FLIPS = st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4)


class Sound(dict[str, dict[str, bytes]]):
    """The files of a setting by the name of its fine-tuner."""

    def __repr__(self) -> str:
        return "files"


@pytest.fixture(scope="module")
def sound(
    tmp_path_factory: pytest.TempPathFactory, clip: FrozenCLIP, features: FeatureSet
) -> Sound:
    """Files of a short trial, for some fine-tuners."""
    found = Sound()
    for name in FINETUNERS:
        folder = tmp_path_factory.mktemp(name) / "trained"
        finetuner = {"name": name, **FAST.get(name, {})}
        small(folder, features, clip, finetuner=finetuner)
        found[name] = {file: (folder / file).read_bytes() for file in (SAID, SEED)}
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the damaged files are written."""
    return tmp_path_factory.mktemp("damaged")


def write(place: Path, said: bytes, tensors: bytes) -> Path:
    """The folder with these files."""
    (place / SAID).write_bytes(said)
    (place / SEED).write_bytes(tensors)
    return place


def use(place: Path, clip: FrozenCLIP) -> None:
    """A model that works, or one line that says what is wrong with which file."""
    try:
        loaded = ship.load_trained(place, clip=clip)
        assert loaded.logits(torch.eye(2, clip.feature_dim)).shape == (2, len(loaded.class_names))
        if loaded.notes == ():
            assert loaded.features(["zeppelin"], 2)[0].shape == (2, clip.feature_dim)
    except TrainedError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 1500
        assert str(error).startswith(str(place)) and "; " in str(error)


def check_flips(place: Path, sound: Sound, flips: list[tuple[int, int]], clip: FrozenCLIP) -> None:
    """Bytes that differ anywhere in a seed's file."""
    content = bytearray(sound["coop"][SEED])
    for at, bits in flips:
        content[at % len(content)] ^= bits
    if bytes(content) == sound["coop"][SEED]:
        return
    with pytest.raises(TrainedError, match=r"is not the file that trained\.json is about"):
        ship.load_trained(write(place, sound["coop"][SAID], bytes(content)), clip=clip)


@quick
@given(flips=FLIPS)
def test_a_flipped_file_is_named(
    place: Path, sound: Sound, clip: FrozenCLIP, flips: list[tuple[int, int]]
) -> None:
    """No other numbers come of it."""
    check_flips(place, sound, flips, clip)


@quick
@given(cut=st.integers(0), behind=st.binary(max_size=9), which=st.sampled_from([SAID, SEED]))
def test_a_file_that_was_cut_is_named(
    place: Path, sound: Sound, clip: FrozenCLIP, cut: int, behind: bytes, which: str
) -> None:
    """With or without something else behind it, and with a digest that fits."""
    files = dict(sound["coop"])
    files[which] = files[which][: cut % len(files[which])] + behind
    if which == SEED:
        said = json.loads(files[SAID])
        said["seeds"][0]["blake2b"] = digest(files[SEED])
        files[SAID] = json.dumps(said).encode()
    use(write(place, files[SAID], files[SEED]), clip)


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


def check_said(
    place: Path, sound: Sound, name: str, path: list[int], value: Any, clip: FrozenCLIP
) -> None:
    """One value of trained.json is any other."""
    said = changed(json.loads(sound[name][SAID]), path, value)
    use(write(place, json.dumps(said).encode(), sound[name][SEED]), clip)


@quick
@given(name=st.sampled_from(FINETUNERS), path=PATHS, value=ANY)
def test_whatever_trained_json_says(
    place: Path, sound: Sound, clip: FrozenCLIP, name: str, path: list[int], value: Any
) -> None:
    """It is refused, or is a model of the size of the file."""
    check_said(place, sound, name, path, value, clip)


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


def check_tensors(
    place: Path, sound: Sound, name: str, which: int, how: int, clip: FrozenCLIP
) -> None:
    """One tensor is another, or is missing; the digest fits."""
    tensors = safetensors.torch.load(sound[name][SEED])
    key = sorted(tensors)[which % len(tensors)]
    choices = other(tensors[key])
    if how % (len(choices) + 1) == len(choices):
        del tensors[key]
    else:
        tensors[key] = choices[how % (len(choices) + 1)].contiguous()
    data = safetensors.torch.save(tensors)
    said = json.loads(sound[name][SAID])
    said["seeds"][0]["blake2b"] = digest(data)
    use(write(place, json.dumps(said).encode(), data), clip)


@quick
@given(name=st.sampled_from(FINETUNERS), which=st.integers(0, 30), how=st.integers(0, 8))
def test_whatever_the_tensors_are(
    place: Path, sound: Sound, clip: FrozenCLIP, name: str, which: int, how: int
) -> None:
    """They fit what is built, or are refused."""
    check_tensors(place, sound, name, which, how, clip)


@pytest.mark.slow
@deep
@given(
    flips=FLIPS,
    name=st.sampled_from(FINETUNERS),
    path=PATHS,
    value=ANY,
    which=st.integers(0, 30),
    how=st.integers(0, 8),
)
def test_all_of_it_for_minutes(
    place: Path,
    sound: Sound,
    clip: FrozenCLIP,
    flips: list[tuple[int, int]],
    name: str,
    path: list[int],
    value: Any,
    which: int,
    how: int,
) -> None:
    """The same, with other examples each time."""
    check_flips(place, sound, flips, clip)
    check_said(place, sound, name, path, value, clip)
    check_tensors(place, sound, name, which, how, clip)


def edited(change: Callable[[Any], None]) -> Callable[[Sound], tuple[bytes, bytes]]:
    """Files whose trained.json was changed."""

    def made(sound: Sound) -> tuple[bytes, bytes]:
        said = json.loads(sound["coop"][SAID])
        change(said)
        return json.dumps(said).encode(), sound["coop"][SEED]

    return made


MISTAKES: list[tuple[str, Callable[[Any], None], str]] = [
    ("sizes", lambda s: s["settings"]["generator"].update(generator_hidden=10**9), "more weights"),
    ("format", lambda s: s.update(format=2), "trained.json: format: Input should be 1"),
    ("version", lambda s: s.update(results_version=1), "is of results version 1, this is"),
    ("backbone", lambda s: s.update(backbone_fingerprint="0" * 32), "load the weights that it was"),
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
