"""The public checks: they pass what is sound, and say in words what is not."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ship.datasets import DATASETS, Picture, Split
from ship.finetuners import build_finetuner
from ship.generators import build_generator
from ship.plugins import DatasetPlugin
from ship.registry import Origin
from ship.testing import (
    FINETUNER_CHECKS,
    GENERATOR_CHECKS,
    Bench,
    Finding,
    check_dataset,
    check_finetuner,
    check_generator,
    finetuners,
    generators,
)

pytestmark = pytest.mark.usefixtures("example")


def failing(found: list[Finding]) -> dict[str, str]:
    """What is not kept, and why."""
    return {one.promise: one.fault for one in found if not one.holds}


Spoiling = Callable[[Any, Any], Any]


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Spoiling], None]:
    """Have what is checked built otherwise: of what is sound, and the arguments of its builder."""

    def others(how: Spoiling) -> None:
        for module, name, build in (
            (finetuners, "build_finetuner", build_finetuner),
            (generators, "build_generator", build_generator),
        ):
            other = partial(lambda build, *given: how(build(*given), given), build)
            monkeypatch.setattr(module, name, other)

    return others


def with_other(**others: Any) -> Spoiling:
    """With other members: functions of what the sound ones give and were given, or values."""

    def spoiled(made: Any, _: Any) -> Any:
        for name, other in others.items():
            if callable(other):
                other = partial(
                    lambda sound, new, *x: new(sound(*x), *x), getattr(made, name), other
                )
            setattr(made, name, other)
        return made

    return spoiled


def learning(made: Any, _: Any) -> Any:
    """Learns from what it is asked about."""

    def learned(logits: Tensor, x: Tensor, choice: Any) -> Tensor:
        made.stack.trained["prototypes"].data.add_(x.mean())
        return logits

    return with_other(logits=learned)(made, _)


def centred(made: Any, _: Any) -> Any:
    """Takes the mean of the pictures that it is asked about off each of them."""
    sound = made.logits
    made.logits = lambda x, choice: sound(x - 0.9 * x.mean(0), choice)
    return made


def stuck(made: Any, _: Any) -> Any:
    """Stays where it is, whatever is put back."""
    made.load_state_dict = lambda state: None
    return made


def later_is_better(logits: Tensor, x: Tensor, choice: Any) -> Tensor:
    """A picture scores the more highly the later it comes, but for the last one."""
    place = torch.arange(len(x)).unsqueeze(1)
    return logits + place * (place < len(x) - 1)


LONGER = with_other(epochs=9)
SUMMED = with_other(train_epoch=lambda made: {name: value.sum() for name, value in made.items()})
FORGETFUL = with_other(parts=lambda _: {})
EMPTY = with_other(learned=lambda _: {})


def writing(made: Any, arguments: Any) -> Any:
    """Writes to the features of its task."""
    arguments[1].features.mul_(1.5)
    return made


def peeping(made: Any, arguments: Any) -> Any:
    """Takes a look at pictures of unseen classes."""
    for value in made.stack.trained.values():
        value.data.add_(arguments[1].unseen()[0].features.mean())
    return made


FINETUNER_MUTANTS: dict[str, tuple[Spoiling, str]] = {
    "restless": (
        with_other(logits=lambda made, *_: made + torch.rand(())),
        "whatever torch's own seed is",
    ),
    "forgetful": (FORGETFUL, "goes on to the bit"),
    "empty": (EMPTY, "is all that logits need"),
    "infinite": (with_other(logits=lambda made, *_: made * torch.inf), "in finite numbers"),
    "mixed": (
        with_other(logits=lambda made, *_: made + made.mean(0)),
        "the numbers that it gives alone",
    ),
    "learning": (learning, "are not learned from"),
    "centred": (centred, "that it has alone"),
    "ordered": (with_other(logits=later_is_better), "in any order"),
    "longer": (LONGER, "the epochs of its settings"),
    "twice": (with_other(choices=({}, {})), "it has the members"),
    "summed": (SUMMED, "one finite number a seed"),
    "stuck": (stuck, "can be put back"),
    "writing": (writing, "are only read"),
    "peeping": (peeping, "pictures of unseen classes never matter"),
}
unit = torch.nn.functional.normalize
GENERATOR_MUTANTS: dict[str, tuple[Spoiling, str]] = {
    "longer": (LONGER, "the epochs of its settings"),
    "summed": (SUMMED, "one finite number a seed"),
    "blended": (
        with_other(sample=lambda made, *_: unit(made + made.mean(0), dim=-1)),
        "the numbers that it gives alone",
    ),
    "forgetful": (FORGETFUL, "goes on to the bit"),
    "empty": (EMPTY, "is all that samples need"),
    "long": (with_other(sample=lambda made, *_: 2 * made), "of unit norm"),
    "loose": (
        with_other(sample=lambda made, *_: unit(made + 0.1 * torch.randn_like(made), dim=-1)),
        "whatever torch's own seed is",
    ),
    "writing": (writing, "are only read"),
    "peeping": (peeping, "pictures of unseen classes never matter"),
}


def test_rounding_is_no_look_at_other_pictures(spoil: Any, bench: Bench) -> None:
    """How many pictures are scored at once changes the last bits of a sound method's sums."""
    spoil(with_other(logits=lambda made, x, _: made * (1 + 1e-7 * (len(x) == 1))))
    assert failing(list(check_finetuner("nearest_mean", bench=bench))) == {}


@pytest.mark.parametrize(
    ("check", "name", "how", "promise"),
    [
        *((check_finetuner, "nearest_mean", *m) for m in FINETUNER_MUTANTS.values()),
        *((check_generator, "residual_text", *m) for m in GENERATOR_MUTANTS.values()),
    ],
    ids=[*FINETUNER_MUTANTS, *(f"generator {name}" for name in GENERATOR_MUTANTS)],
)
def test_a_method_that_breaks_a_promise_is_found(
    check: Any, name: str, how: Spoiling, promise: str, spoil: Any, bench: Bench
) -> None:
    """It is that promise that fails, with a reason."""
    spoil(how)
    found = failing(list(check(name, bench=bench)))
    assert any(promise in said and why for said, why in found.items()), found


def test_every_promise_has_a_mutant() -> None:
    """A clause that nothing breaks would say nothing."""
    for checks, mutants in (
        (FINETUNER_CHECKS, FINETUNER_MUTANTS),
        (GENERATOR_CHECKS, GENERATOR_MUTANTS),
    ):
        broken = [promise for _, promise in mutants.values()]
        assert [said for said in checks if not any(part in said for part in broken)] == []


def test_what_raises_is_told_in_one_line(spoil: Any, bench: Bench) -> None:
    """Somebody else's exception is a finding, not the end of the checks."""

    def raising(*_: Any) -> Any:
        raise RuntimeError("no luck\nat all")

    spoil(raising)
    found = list(check_finetuner("nearest_mean", bench=bench))
    assert len(found) == 2 * len(FINETUNER_CHECKS)
    assert {one.fault for one in found} == {"RuntimeError: no luck"}
    assert str(found[0]).startswith("FAILS  without synthetic features, it has the members")


def test_datasets_keep_their_contract() -> None:
    """The packaged one does."""
    assert failing(list(check_dataset("emoji"))) == {}


def test_a_dataset_that_breaks_a_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels that no class has, a template without a place, pictures that cannot be decoded."""
    emoji = DATASETS["emoji"]

    class Spoiled:
        template = "a photo"

        def survey(self, name: str, data_root: Path | None) -> Any:
            found = emoji.survey("emoji", None)
            labels = found.splits["val"].labels + 1000
            splits = {
                **found.splits,
                "val": Split(found.splits["val"].pictures, labels),
                "test": Split((Picture("broken", b"no picture"),), labels[:1]),
            }
            vars(found)["splits"] = splits
            return found

    DATASETS.add(DatasetPlugin("spoiled", Spoiled()), Origin("file x", "sha256:0"))
    found = failing(list(check_dataset("spoiled")))
    for promise in ("one place for a class name", "a label of a class", "can be decoded"):
        assert any(promise in said for said in found), found
