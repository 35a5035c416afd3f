"""The public checks accept sound methods and datasets, and explain faults of others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ship.configs import FINETUNERS, GENERATORS
from ship.datasets import DATASETS, ImageFile, Split, scan_dataset
from ship.plugins import DatasetPlugin
from ship.registry import Origin, PluginError
from ship.testing import Bench, check_dataset, check_finetuner, check_generator
from ship.testing.bench import CheckResult
from ship.testing.checks import DATASET_CHECKS, FINETUNER_CHECKS, GENERATOR_CHECKS

pytestmark = pytest.mark.usefixtures("example")


def failing(results: list[CheckResult]) -> dict[str, str]:
    """Return the failed requirements and their faults."""
    return {result.requirement: result.fault for result in results if not result.passed}


# of each method that is spoiled, its check
SOUND: dict[str, Any] = {"nearest_mean": check_finetuner, "residual_text": check_generator}
Spoil = Callable[..., dict[str, str]]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> Spoil:
    """Have a method checked with other members: values, or functions that give something else.

    The functions take the method, what the sound one gives, and what it was given.
    """

    def checked(name: str, **more: Any) -> dict[str, str]:
        config = (FINETUNERS if name in FINETUNERS else GENERATORS)[name]
        sound, members = config.load_method(), {}

        def instead(member: str, other: Any) -> Any:
            inner = getattr(sound, member)
            return lambda method, *x: other(method, inner(method, *x), *x)

        for member, other in more.items():
            members[member] = instead(member, other) if callable(other) else other
        monkeypatch.setattr(config, "method", type("Spoiled", (sound,), members))
        return failing(list(SOUND[name](name, bench=bench)))

    return checked


def raising(*_: Any) -> Any:
    """Cannot be built."""
    raise RuntimeError("no luck\nat all")


def writing(method: Any, _: None, config: Any, task: Any, *more: Any) -> None:
    """Modifies the features of its task."""
    task.features.mul_(1.5)


def noisy(method: Any, *_: Any) -> None:
    """Draws from torch's global stream."""
    for value in method.parameters():
        value.data += 0.1 * torch.randn_like(value)


def still(method: Any, *_: Any) -> None:
    """Trains nothing, whatever its settings are."""
    method.requires_grad_(False)


def shifted(method: Any, logits: Any, x: Any, _: Any) -> Any:
    """Adds a value from training images to the logits."""
    return logits + (x @ method.center())[:, None]


def moved(method: Any, samples: Any, *_: Any) -> Any:
    """Adds a value from training images to the samples."""
    return unit(samples + method.center())


def holding(method: Any, _: None, config: Any, task: Any, *more: Any) -> None:
    """Stores a value from images as a plain attribute."""
    mean = task.features.mean((0, 1))
    method.center = lambda: mean


def unkept(method: Any, _: None, config: Any, task: Any, *more: Any) -> None:
    """Stores a value from images in a buffer that is not saved."""
    method.register_buffer("mean", task.features.mean((0, 1)), persistent=False)
    method.center = lambda: method.mean


def counting(method: Any, sound: Any, *_: Any) -> Any:
    """Counts steps outside of its state, and increases their size."""
    method.steps = getattr(method, "steps", 0) + 1
    if isinstance(sound, dict):
        return {name: method.steps * value for name, value in sound.items()}
    return method.steps * sound


def counted(method: Any, logits: Any, *_: Any) -> Any:
    """Adds the number of steps to the logits."""
    return logits * (1 + getattr(method, "steps", 0))


def learning(method: Any, logits: Any, x: Any, _: Any) -> Any:
    """Learns from the images that it classifies."""
    method.prototypes.add_(x.mean())
    return logits


def later_is_better(_: Any, logits: Any, x: Any, choice: Any) -> Any:
    """Scores an image by its position in the batch."""
    place = torch.arange(len(x)).unsqueeze(1)
    return logits + place * (place < len(x) - 1)


def unit(x: Any) -> Any:
    """Normalize along the last axis."""
    return torch.nn.functional.normalize(x, dim=-1)


# of a method, a promise's words and members that break it
MUTANTS: list[tuple[str, str, dict[str, Any]]] = [
    *(
        (name, promise, members)
        for name in SOUND
        for promise, members in (
            ("it can be built", {"__init__": raising}),
            ("the same seeds give the same results", {"__init__": noisy}),
            ("a resumed run", {"loss": counting}),
            ("does not modify", {"__init__": writing}),
        )
    ),
    ("nearest_mean", "it can be built", {"inference_grid": ()}),
    (
        "nearest_mean",
        "finite and have the right shape",
        {"logits": lambda _, sound, *x: sound * torch.inf},
    ),
    (
        "nearest_mean",
        "one finite number per seed",
        {"loss": lambda _, sound, *x: sound + torch.inf},
    ),
    ("nearest_mean", "with and without other seeds", {"__init__": holding, "logits": shifted}),
    ("nearest_mean", "only on its saved state", {"__init__": unkept, "logits": shifted}),
    ("nearest_mean", "options are distinct", {"inference_grid": ({}, {})}),
    ("nearest_mean", "epochs are those of its settings", {"__init__": still}),
    (
        "nearest_mean",
        "the logits of an image",
        {"logits": lambda _, sound, *x: sound - sound.mean(0)},
    ),
    ("nearest_mean", "not depend on the other images", {"logits": later_is_better}),
    ("nearest_mean", "can be restored", {"loss": counting, "logits": counted}),
    ("nearest_mean", "evaluation changes nothing", {"logits": learning}),
    (
        "residual_text",
        "finite and have the right shape",
        {"sample": lambda _, sound, *x: sound[:, :5]},
    ),
    (
        "residual_text",
        "one finite number per seed",
        {"loss": lambda _, sound, *x: {"loss": sound["loss"], "each": sound["loss"].expand(2)}},
    ),
    ("residual_text", "with and without other seeds", {"__init__": holding, "sample": moved}),
    ("residual_text", "only on its saved state", {"__init__": unkept, "sample": moved}),
    ("residual_text", "unit norm", {"sample": lambda _, sound, *x: 2 * sound}),
]


@pytest.mark.parametrize(("name", "promise", "members"), MUTANTS)
def test_method_that_violates_a_requirement_fails_its_check(
    name: str, promise: str, members: dict[str, Any], spoil: Spoil
) -> None:
    """That check fails with a reason."""
    failures = spoil(name, **members)
    assert any(promise in title and why for title, why in failures.items()), failures


def test_every_requirement_has_a_violating_method() -> None:
    """A check that nothing fails would be useless."""
    for name, checks in (("nearest_mean", FINETUNER_CHECKS), ("residual_text", GENERATOR_CHECKS)):
        broken = [promise for mutated_name, promise, _ in MUTANTS if mutated_name == name]
        assert [title for title in checks if not any(part in title for part in broken)] == []


def test_method_that_cannot_be_built_has_one_result(spoil: Spoil) -> None:
    """The exception of a plugin is one line, and no further checks run."""
    failures = spoil("nearest_mean", __init__=raising)
    promise = "without synthetic features, it can be built, trained and evaluated"
    assert failures == {promise: "RuntimeError: no luck"}
    assert str(CheckResult(*failures.popitem())) == f"FAILED  {promise}: RuntimeError: no luck"


def test_dataset_that_violates_requirements_fails_its_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unknown labels, a template without {} and undecodable images."""
    emoji = DATASETS["emoji"]

    class Spoiled:
        template = "a photo"

        def scan(self, name: str, data_root: Path | None) -> Any:
            failures = emoji.scan("emoji", None)
            labels = failures.splits["val"].labels + 1000
            splits = {
                **failures.splits,
                "val": Split(failures.splits["val"].images, labels),
                "test": Split((ImageFile("broken", b"no image"),), labels[:1]),
            }
            vars(failures)["splits"] = splits
            return failures

    DATASETS.add(DatasetPlugin("spoiled", Spoiled()), Origin("file x", "sha256:0"))
    failures = failing(list(check_dataset("spoiled")))
    for promise in ("one {} for a class name", "a valid label", "can be decoded"):
        assert any(promise in title for title in failures), failures


def test_folder_of_images_passes(tmp_path: Path) -> None:
    """Its template is that of `image_folder`."""
    for split, color in (("train", 0), ("val", 9), ("test", 18)):
        for label in range(3):
            path = tmp_path / "pets" / split / f"kind {label}"
            path.mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (8, 8), (color + i, 60 * label, 7)).save(path / f"{i}.png")
    results = list(check_dataset("image_folder:pets", tmp_path))
    assert len(results) == len(DATASET_CHECKS) and failing(results) == {}


@pytest.mark.usefixtures("restore_registries")
def test_exception_of_a_dataset_plugin_is_one_line() -> None:
    """The line has the file of the plugin, the exception and its location."""

    class Raising:
        template = "a photo of a {}."

        def scan(self, name: str, data_root: Path | None) -> Any:
            raise ValueError("no squares today\nnor tomorrow")

    DATASETS.add(DatasetPlugin("raising", Raising()), Origin("file x.py", "sha256:0"))
    message = (
        r"^file x.py: dataset raising cannot be read: ValueError: no squares today \(.*, line "
    )
    with pytest.raises(PluginError, match=message):
        scan_dataset("raising")


@pytest.mark.usefixtures("restore_registries")
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("cannot identify image file\nx"), "cannot identify image file"),
        (OSError(), "OSError"),
        (PermissionError(13, "Permission denied", "/a/b.csv"), "Permission denied (/a/b.csv)"),
    ],
    ids=repr,
)
def test_os_error_of_a_dataset_plugin_is_a_fault(error: OSError, reason: str) -> None:
    """It has the file, and the message of an error without errno."""

    class Raising:
        template = "a photo of a {}."

        def scan(self, name: str, data_root: Path | None) -> Any:
            raise error

    DATASETS.add(DatasetPlugin("raising", Raising()), Origin("file x.py", "sha256:0"))
    assert scan_dataset("raising").faults == (f"dataset raising: cannot be read: {reason}",)
