"""The public checks accept sound methods and datasets, and explain faults of others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ship.configs import FINETUNERS, GENERATORS
from ship.datasets import DATASETS, ImageFile, Split, scan_dataset
from ship.plugins import DatasetPlugin
from ship.registry import Origin, PluginError
from ship.testing import Bench, check_dataset, check_finetuner, check_generator
from ship.testing.bench import CheckResult
from ship.testing.checks import FINETUNER_CHECKS, GENERATOR_CHECKS

pytestmark = pytest.mark.usefixtures("example")


def failing(found: list[CheckResult]) -> dict[str, str]:
    """Return the failed requirements and their faults."""
    return {result.requirement: result.fault for result in found if not result.passed}


# of each method that is spoiled, its check
SOUND: dict[str, Any] = {"nearest_mean": check_finetuner, "residual_text": check_generator}
Spoil = Callable[..., dict[str, str]]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> Spoil:
    """Have a method checked with other members: values, or functions that give something else.

    The functions take the method, what the sound one gives, and what it was given.
    """

    def checked(name: str, **others: Any) -> dict[str, str]:
        config = (FINETUNERS if name in FINETUNERS else GENERATORS)[name]
        sound, members = config.load_method(), {}

        def instead(member: str, other: Any) -> Any:
            inner = getattr(sound, member)
            return lambda made, *x: other(made, inner(made, *x), *x)

        for member, other in others.items():
            members[member] = instead(member, other) if callable(other) else other
        monkeypatch.setattr(config, "method", type("Spoiled", (sound,), members))
        return failing(list(SOUND[name](name, bench=bench)))

    return checked


def raising(*_: Any) -> Any:
    """Cannot be built."""
    raise RuntimeError("no luck\nat all")


def writing(made: Any, _: None, config: Any, task: Any, *more: Any) -> None:
    """Modifies the features of its task."""
    task.features.mul_(1.5)


def noisy(made: Any, *_: Any) -> None:
    """Draws from torch's global stream."""
    for value in made.parameters():
        value.data += 0.1 * torch.randn_like(value)


def still(made: Any, *_: Any) -> None:
    """Trains nothing, whatever its settings are."""
    made.requires_grad_(False)


def shifted(made: Any, logits: Any, x: Any, _: Any) -> Any:
    """Adds a value from training images to the logits."""
    return logits + (x @ made.center())[:, None]


def moved(made: Any, samples: Any, *_: Any) -> Any:
    """Adds a value from training images to the samples."""
    return unit(samples + made.center())


def holding(made: Any, _: None, config: Any, task: Any, *more: Any) -> None:
    """Stores a value from images as a plain attribute."""
    mean = task.features.mean((0, 1))
    made.center = lambda: mean


def unkept(made: Any, _: None, config: Any, task: Any, *more: Any) -> None:
    """Stores a value from images in a buffer that is not saved."""
    made.register_buffer("mean", task.features.mean((0, 1)), persistent=False)
    made.center = lambda: made.mean


def counting(made: Any, sound: Any, *_: Any) -> Any:
    """Counts steps outside of its state, and increases their size."""
    made.steps = getattr(made, "steps", 0) + 1
    if isinstance(sound, dict):
        return {name: made.steps * value for name, value in sound.items()}
    return made.steps * sound


def counted(made: Any, logits: Any, *_: Any) -> Any:
    """Adds the number of steps to the logits."""
    return logits * (1 + getattr(made, "steps", 0))


def learning(made: Any, logits: Any, x: Any, _: Any) -> Any:
    """Learns from the images that it classifies."""
    made.prototypes.add_(x.mean())
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
    found = spoil(name, **members)
    assert any(promise in said and why for said, why in found.items()), found


def test_every_requirement_has_a_violating_method() -> None:
    """A check that nothing fails would be useless."""
    for name, checks in (("nearest_mean", FINETUNER_CHECKS), ("residual_text", GENERATOR_CHECKS)):
        broken = [promise for own, promise, _ in MUTANTS if own == name]
        assert [said for said in checks if not any(part in said for part in broken)] == []


def test_method_that_cannot_be_built_has_one_result(spoil: Spoil) -> None:
    """The exception of a plugin is one line, and no further checks run."""
    found = spoil("nearest_mean", __init__=raising)
    promise = "without synthetic features, it can be built, trained and evaluated"
    assert found == {promise: "RuntimeError: no luck"}
    assert str(CheckResult(*found.popitem())) == f"FAILED  {promise}: RuntimeError: no luck"


def test_dataset_that_violates_requirements_fails_its_checks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Unknown labels, a template without {} and undecodable images."""
    emoji = DATASETS["emoji"]

    class Spoiled:
        template = "a photo"

        def scan(self, name: str, data_root: Path | None) -> Any:
            found = emoji.scan("emoji", None)
            labels = found.splits["val"].labels + 1000
            splits = {
                **found.splits,
                "val": Split(found.splits["val"].images, labels),
                "test": Split((ImageFile("broken", b"no image"),), labels[:1]),
            }
            vars(found)["splits"] = splits
            return found

    DATASETS.add(DatasetPlugin("spoiled", Spoiled()), Origin("file x", "sha256:0"))
    found = failing(list(check_dataset("spoiled")))
    for promise in ("one {} for a class name", "a valid label", "can be decoded"):
        assert any(promise in said for said in found), found


@pytest.mark.usefixtures("own_tables")
def test_exception_of_a_dataset_plugin_is_one_line() -> None:
    """The line has the file of the plugin, the exception and its location."""

    class Raising:
        template = "a photo of a {}."

        def scan(self, name: str, data_root: Path | None) -> Any:
            raise ValueError("no squares today\nnor tomorrow")

    DATASETS.add(DatasetPlugin("raising", Raising()), Origin("file x.py", "sha256:0"))
    told = r"^file x.py: dataset raising cannot be read: ValueError: no squares today \(.*, line "
    with pytest.raises(PluginError, match=told):
        scan_dataset("raising")
