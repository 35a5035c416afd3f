"""Objects written for one seed, one for each, behind the contracts of a trial's replicas."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.single_seed.contract import SeedFinetuner, SeedGenerator
from ship.single_seed.state import resumable, rows_of
from ship.single_seed.task import SeedTask, synthetic_sets
from ship.synthesis import Synthesizer
from ship.tasks import Task
from ship.training import Part, ReplicaRng

One = TypeVar("One", bound="SeedGenerator | SeedFinetuner")


def single_seed_generator(build: Callable[..., SeedGenerator]) -> Callable[..., Any]:
    """What builds a generator for all seeds of a trial, from what builds one for a seed.

    Args:
        build: takes the settings, a SeedTask, the backbone and the seed; a class will do.
    """

    def built(
        config: Any, task: Task, clip: FrozenCLIP, seeds: Sequence[int]
    ) -> "SingleSeedGenerator":
        return SingleSeedGenerator(
            [
                build(config, SeedTask.of(task, replica), clip, seed)
                for replica, seed in enumerate(seeds)
            ]
        )

    return built


def single_seed_finetuner(build: Callable[..., SeedFinetuner]) -> Callable[..., Any]:
    """What builds a fine-tuner for all seeds of a trial, from what builds one for a seed.

    Synthetic features are drawn once (`synthetic.per_class`), as for Tip-Adapter's cache;
    `synthetic.ratio` and `synthetic.draw` have no effect.

    Args:
        build: takes the settings, a SeedTask, a SyntheticSet or None, the backbone and the seed; a
            class will do.
    """

    def built(
        config: Any,
        task: Task,
        synthesizer: Synthesizer | None,
        clip: FrozenCLIP,
        seeds: Sequence[int],
    ) -> "SingleSeedFinetuner":
        made = synthetic_sets(synthesizer, task.n_replicas)
        return SingleSeedFinetuner(
            [
                build(config, SeedTask.of(task, replica), made[replica], clip, seed)
                for replica, seed in enumerate(seeds)
            ]
        )

    return built


class _EachSeed(Generic[One]):
    """One object for each replica: their epochs, and what these change."""

    def __init__(self, each: Sequence[One]) -> None:
        self._each = each

    @property
    def epochs(self) -> int:
        """Training epochs."""
        return self._each[0].epochs

    def train_epoch(self) -> dict[str, Float[Tensor, " replica"]]:
        """Train each seed for one epoch."""
        return _stacked([one.train_epoch() for one in self._each])

    def parts(self) -> Mapping[str, Part]:
        """What training changes, by the place of the seed."""
        return {str(place): resumable(one.parts()) for place, one in enumerate(self._each)}


class SingleSeedGenerator(_EachSeed[SeedGenerator]):
    """A ship.generators.Generator of one SeedGenerator for each replica."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing to fit; single seeds do not stop early."""
        return self.epochs == 0

    @torch.no_grad()
    def sample(
        self, class_ids: Int[Tensor, "replica n"], rng: ReplicaRng
    ) -> Float[Tensor, "replica n feature"]:
        """One feature for every class id, of each seed by its own stream of noise."""
        return torch.stack(
            [
                one.sample(class_ids[replica], rng.stream(replica))
                for replica, one in enumerate(self._each)
            ]
        )

    def learned(self) -> Mapping[str, Part]:
        """What sample() reads, stacked."""
        return dict(rows_of([one.learned() for one in self._each]))


class SingleSeedFinetuner(_EachSeed[SeedFinetuner]):
    """A ship.finetuners.Finetuner of one SeedFinetuner for each replica."""

    choices: tuple[Mapping[str, float], ...] = ({},)

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "replica n n_cls"]:
        """Class scores of the same pictures under every seed."""
        return torch.stack([one.logits(pictures) for one in self._each])

    def state_dict(self) -> dict[str, Tensor]:
        """What was learned, stacked, as detached copies."""
        return {name: rows.stacked() for name, rows in self._rows().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave."""
        for name, rows in self._rows().items():
            rows.load_state_dict({"": state[name]})

    def learned(self) -> Mapping[str, Part]:
        """What logits() reads, stacked."""
        return dict(self._rows())

    def _rows(self) -> Mapping[str, Any]:
        return rows_of([one.learned() for one in self._each])


def _stacked(found: Sequence[Mapping[str, float | Tensor]]) -> dict[str, Tensor]:
    """Numbers of each seed as one tensor, (replica,), by name."""
    return {
        name: torch.stack([torch.as_tensor(own[name]).detach().double() for own in found])
        for name in found[0]
    }
