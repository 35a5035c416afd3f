"""The public checks: they pass what is sound, and say in words what is not."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ship.configs import FINETUNERS, GENERATORS
from ship.datasets import DATASETS, Picture, Split
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
)

pytestmark = pytest.mark.usefixtures("example")


def failing(found: list[Finding]) -> dict[str, str]:
    """What is not kept, and why."""
    return {one.promise: one.fault for one in found if not one.holds}


class Wrapped:
    """A sound part, of which a mutant changes something."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["inner"], name)


def spoiled(table: Any, name: str, how: Callable[[Any, Any], Any]) -> None:
    """Have a table build something that is not sound."""
    entry = table[name]

    def build(*arguments: Any) -> Any:
        return how(entry.build(*arguments), arguments)

    table[name] = entry._replace(build=build)


class Restless(Wrapped):
    """Draws from torch's own stream."""

    def logits(self, x: Tensor, choice: Mapping[str, float]) -> Tensor:
        made: Tensor = self.inner.logits(x, choice)
        return made + torch.rand(())


class Forgetful(Wrapped):
    """Says that no epoch changes anything."""

    def parts(self) -> dict[str, Any]:
        return {}


class Empty(Wrapped):
    """Says that it has learned nothing."""

    def learned(self) -> dict[str, Any]:
        return {}


class Infinite(Wrapped):
    """Gives no numbers."""

    def logits(self, x: Tensor, choice: Mapping[str, float]) -> Tensor:
        made: Tensor = self.inner.logits(x, choice)
        return made * torch.inf


class Mixed(Wrapped):
    """Lets one replica reach into the others."""

    def logits(self, x: Tensor, choice: Mapping[str, float]) -> Tensor:
        made: Tensor = self.inner.logits(x, choice)
        return made + made.mean(0)


class Learning(Wrapped):
    """Learns from what it is asked about."""

    def logits(self, x: Tensor, choice: Mapping[str, float]) -> Tensor:
        made: Tensor = self.inner.logits(x, choice)
        for part in self.inner._each:
            part.prototypes += x.mean()
        return made


class Centred(Wrapped):
    """Takes the mean of the pictures that it is asked about off each of them."""

    def logits(self, x: Tensor, choice: Mapping[str, float]) -> Tensor:
        made: Tensor = self.inner.logits(x - 0.9 * x.mean(0), choice)
        return made


class Ordered(Wrapped):
    """Scores a picture more highly the later it comes, but for the last one."""

    def logits(self, x: Tensor, choice: Mapping[str, float]) -> Tensor:
        made: Tensor = self.inner.logits(x, choice)
        place = torch.arange(len(x)).unsqueeze(1)
        return made + place * (place < len(x) - 1)


class Rounded(Wrapped):
    """Rounds as single precision does, in another way for one picture than for many."""

    def logits(self, x: Tensor, choice: Mapping[str, float]) -> Tensor:
        made: Tensor = self.inner.logits(x, choice)
        return made * (1 + 1e-7 * (len(x) == 1))


class Longer(Wrapped):
    """Has more epochs than its settings say."""

    epochs = 9


class Twice(Wrapped):
    """Offers a choice twice."""

    choices = ({}, {})


class Summed(Wrapped):
    """Reports one number for all seeds."""

    def train_epoch(self) -> dict[str, Tensor]:
        return {name: value.sum() for name, value in self.inner.train_epoch().items()}


class Stuck(Wrapped):
    """Stays where it is."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing is put back."""


FINETUNER_MUTANTS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "restless": (lambda made, _: Restless(made), "whatever torch's own seed is"),
    "forgetful": (lambda made, _: Forgetful(made), "goes on to the bit"),
    "empty": (lambda made, _: Empty(made), "is all that logits need"),
    "infinite": (lambda made, _: Infinite(made), "in finite numbers"),
    "mixed": (lambda made, _: Mixed(made), "the numbers that it gives alone"),
    "learning": (lambda made, _: Learning(made), "are not learned from"),
    "centred": (lambda made, _: Centred(made), "that it has alone"),
    "ordered": (lambda made, _: Ordered(made), "in any order"),
    "longer": (lambda made, _: Longer(made), "the epochs of its settings"),
    "twice": (lambda made, _: Twice(made), "it has the members"),
    "summed": (lambda made, _: Summed(made), "one finite number a seed"),
    "stuck": (lambda made, _: Stuck(made), "can be put back"),
}


def writing(made: Any, arguments: Any) -> Any:
    """Writes to the features of its task."""
    arguments[1].features.mul_(1.5)
    return made


def peeping(made: Any, arguments: Any) -> Any:
    """Takes a look at pictures of unseen classes."""
    for part in made._each:
        if hasattr(part, "means"):
            part.means = part.means + arguments[1].unseen_features.mean()
        else:
            part.config = part.config.model_copy(
                update={"noise": float(arguments[1].unseen_features.sum().sigmoid())}
            )
    return made


FINETUNER_MUTANTS["writing"] = (writing, "are only read")
FINETUNER_MUTANTS["peeping"] = (peeping, "pictures of unseen classes never matter")


def test_rounding_is_no_look_at_other_pictures(bench: Bench) -> None:
    """How many pictures are scored at once changes the last bits of a sound method's sums."""
    spoiled(FINETUNERS, "nearest_mean", lambda made, _: Rounded(made))
    assert failing(list(check_finetuner("nearest_mean", bench=bench))) == {}


@pytest.mark.parametrize("mutant", list(FINETUNER_MUTANTS))
def test_a_finetuner_that_breaks_a_promise(mutant: str, bench: Bench) -> None:
    """It is that promise that fails, with a reason."""
    how, promise = FINETUNER_MUTANTS[mutant]
    spoiled(FINETUNERS, "nearest_mean", how)
    found = failing(list(check_finetuner("nearest_mean", bench=bench)))
    assert any(promise in said and why for said, why in found.items()), found


class Long(Wrapped):
    """Samples that are not of unit norm."""

    def sample(self, ids: Tensor, rng: Any) -> Tensor:
        made: Tensor = self.inner.sample(ids, rng)
        return 2 * made


class Loose(Wrapped):
    """Samples of torch's own stream."""

    def sample(self, ids: Tensor, rng: Any) -> Tensor:
        made: Tensor = self.inner.sample(ids, rng)
        return torch.nn.functional.normalize(made + 0.1 * torch.randn_like(made), dim=-1)


class Blended(Wrapped):
    """Lets one replica reach into the others."""

    def sample(self, ids: Tensor, rng: Any) -> Tensor:
        made: Tensor = self.inner.sample(ids, rng)
        return torch.nn.functional.normalize(made + made.mean(0), dim=-1)


GENERATOR_MUTANTS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "longer": (lambda made, _: Longer(made), "the epochs of its settings"),
    "summed": (lambda made, _: Summed(made), "one finite number a seed"),
    "blended": (lambda made, _: Blended(made), "the numbers that it gives alone"),
    "forgetful": (lambda made, _: Forgetful(made), "goes on to the bit"),
    "empty": (lambda made, _: Empty(made), "is all that samples need"),
    "long": (lambda made, _: Long(made), "of unit norm"),
    "loose": (lambda made, _: Loose(made), "whatever torch's own seed is"),
    "writing": (writing, "are only read"),
    "peeping": (peeping, "pictures of unseen classes never matter"),
}


@pytest.mark.parametrize("mutant", list(GENERATOR_MUTANTS))
def test_a_generator_that_breaks_a_promise(mutant: str, bench: Bench) -> None:
    """It is that promise that fails, with a reason."""
    how, promise = GENERATOR_MUTANTS[mutant]
    spoiled(GENERATORS, "residual_text", how)
    found = failing(list(check_generator("residual_text", bench=bench)))
    assert any(promise in said and why for said, why in found.items()), found


def test_every_promise_has_a_mutant() -> None:
    """A clause that nothing breaks would say nothing."""
    for checks, mutants in (
        (FINETUNER_CHECKS, FINETUNER_MUTANTS),
        (GENERATOR_CHECKS, GENERATOR_MUTANTS),
    ):
        broken = [promise for _, promise in mutants.values()]
        assert [said for said in checks if not any(part in said for part in broken)] == []


def test_what_raises_is_told_in_one_line(bench: Bench) -> None:
    """Somebody else's exception is a finding, not the end of the checks."""

    def raising(*_: Any) -> Any:
        raise RuntimeError("no luck\nat all")

    FINETUNERS["nearest_mean"] = FINETUNERS["nearest_mean"]._replace(build=raising)
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
