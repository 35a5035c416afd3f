"""A trial on its way: what it has reported, what lives in it now, and where it was resumed."""

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from ship.replicas import fetched
from ship.state import Checkpoint, Part, capture, restore, under
from ship.trial_config import EpochMetrics, Hits, Stage


class Journal:
    """What a trial reports; and, where it was resumed, what it needs not do again.

    trained: the files of what was tested by name, once it was, if they are kept.
    """

    def __init__(self, planned: int, always: Mapping[str, Part], resume: Checkpoint | None) -> None:
        """Begin, or go on.

        Args:
            planned: epochs that the trial plans to report.
            always: parts that live from its beginning to its end, by name.
            resume: where it stopped.
        """
        self.trained: Mapping[str, bytes] | None = None
        self._planned, self._always = planned, always
        self._live = dict(always)
        self._held = resume.tensors if resume else {}
        self._history = list(resume.epochs) if resume else []
        self._again = list(self._history)

    def report(
        self, stage: Stage, epoch: int, metrics: Mapping[str, Tensor], hits: tuple[Hits, ...] = ()
    ) -> Generator[EpochMetrics, None, None]:
        """One epoch as plain numbers; behind what a trial that was resumed had reported before.

        Args:
            stage: where the trial is.
            epoch: of the stage, from 1 (0: nothing is trained).
            metrics: (replica,) each, by name.
            hits: of the test, the right answers.

        Raises:
            NonFiniteLoss: one of them is NaN or infinite.
        """
        values = {name: tuple(map(float, value)) for name, value in fetched(metrics).items()}
        progress = min((len(self._history) + 1) / self._planned, 1.0) if stage != "test" else 1.0
        item = EpochMetrics(stage, epoch, progress, values, hits)
        yield from self._again  # meanwhile there is no checkpoint: the state is one epoch further
        self._again = []
        self._history.append(item)
        yield item

    def count(self, *stages: Stage) -> int:
        """Epochs of some stages that are behind the trial."""
        return sum(item.stage in stages for item in self._history)

    def reported(self, *stages: Stage) -> dict[str, Tensor]:
        """What the last epoch of some stages has reported, (replica,) each; {}: nothing."""
        found = [item.per_replica for item in self._history if item.stage in stages]
        last = found[-1] if found else {}
        return {name: torch.tensor(v, dtype=torch.float64) for name, v in last.items()}

    def enter(self, **parts: Part | None) -> None:
        """Let these be the live parts; those among them that were saved get their state back.

        Args:
            parts: whose state the next epoch needs beside those that always live, by name; None:
                there is none.

        Raises:
            CheckpointError: what was saved is of something else.
        """
        own = {name: part for name, part in parts.items() if part is not None}
        self._live = {**self._always, **own}
        for name, part in self._live.items():
            if held := under(self._held, name):
                restore(part, held)
                # once: a later stage's part of that name starts afresh
                self._held = {n: v for n, v in self._held.items() if n.split(".")[0] != name}

    def checkpoint(self) -> Checkpoint | None:
        """Where the trial is; None while what is reported lags behind, and when it has ended."""
        if self._again or not self._history or self._history[-1].stage == "test":
            return None
        return Checkpoint(tuple(self._history), capture(self._live))


@dataclass(frozen=True, eq=False)
class TrialRun(Iterator[EpochMetrics]):
    """The metrics of a trial's epochs; between two of them a checkpoint can be taken.

    epochs: what the trial does, one after the other.
    journal: that it reports to.
    arithmetic: what each epoch runs in (FrozenCLIP.arithmetic).
    """

    epochs: Iterator[EpochMetrics]
    journal: Journal
    arithmetic: Callable[[], AbstractContextManager[None]]

    def __next__(self) -> EpochMetrics:
        with self.arithmetic():
            return next(self.epochs)

    def checkpoint(self) -> Checkpoint | None:
        """Where the trial is, for run_trial to go on from.

        None before its first epoch and behind its last one, and while a trial that was resumed says
        again what it had reported.
        """
        return self.journal.checkpoint()

    @property
    def trained(self) -> Mapping[str, bytes] | None:
        """Files of what was tested by name, behind the last epoch of a trial that keeps them."""
        return self.journal.trained
