"""A trial on its way: what it has reported, what lives in it now, and where it was resumed."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Generator as GeneratorOf
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ship.epoch_metrics import EpochMetrics, Hits, Stage
from ship.training import Checkpoint, Part, capture, restore, under
from ship.transfer import fetched

_RETRAINED: tuple[Stage, ...] = ("final_generator", "final")


class Journal:
    """What a trial reports; and, where it was resumed, what it needs not do again.

    Attributes:
        live: the parts whose state the next epoch needs, by name.
        trained: the files of what was tested by name, once it was, if they are kept.
    """

    def __init__(self, planned: int, resume: Checkpoint | None = None) -> None:
        """Begin, or go on.

        Args:
            planned: epochs that the trial plans to report.
            resume: where it stopped.
        """
        self.live: dict[str, Part] = {}
        self.trained: Mapping[str, bytes] | None = None
        self._planned = planned
        self._held = resume.tensors if resume else {}
        self._history = list(resume.epochs) if resume else []
        self._again = list(self._history)
        self._past = Counter(item.stage for item in self._history)

    def report(
        self, stage: Stage, epoch: int, metrics: Mapping[str, Tensor], hits: tuple[Hits, ...] = ()
    ) -> GeneratorOf[EpochMetrics, None, None]:
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
        while self._again:
            # it stays until the caller is back: the state is already one epoch further
            yield self._again[0]
            del self._again[0]
        self._history.append(item)
        yield item

    def done(self, stage: Stage) -> int:
        """Epochs of a stage that the trial had behind it when it was resumed."""
        return self._past[stage]

    @property
    def selected(self) -> bool:
        """Whether it was retraining by then, which needs nothing of selection but its choice."""
        return any(self._past[stage] for stage in _RETRAINED)

    def reported(self, stage: Stage) -> dict[str, Tensor]:
        """What the last epoch of a stage had reported by then, (replica,) each; {}: nothing."""
        found = [item.per_replica for item in self._history if item.stage == stage]
        last = found[-1] if found else {}
        return {name: torch.tensor(v, dtype=torch.float64) for name, v in last.items()}

    def enter(self, **parts: Part) -> None:
        """Let these be the live parts; those among them that were saved get their state back.

        Raises:
            CheckpointError: what was saved is of something else.
        """
        self.live = parts
        for name, part in self.live.items():
            held = under(self._held, name)
            if held:
                restore(part, held)
                # once: a later stage's part of that name starts afresh
                self._held = {n: v for n, v in self._held.items() if n.split(".")[0] != name}

    def checkpoint(self) -> Checkpoint | None:
        """Where the trial is; None while what is reported lags behind, and when it has ended."""
        if self._again or not self._history or self._history[-1].stage == "test":
            return None
        return Checkpoint(tuple(self._history), capture(self.live))


class TrialRun(Iterator[EpochMetrics]):
    """The metrics of a trial's epochs; between two of them a checkpoint can be taken."""

    def __init__(
        self,
        epochs: Iterator[EpochMetrics],
        journal: Journal,
        arithmetic: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """Build it.

        Args:
            epochs: what the trial does, one after the other.
            journal: that it reports to.
            arithmetic: what each epoch runs in (FrozenCLIP.arithmetic).
        """
        self._epochs = epochs
        self._journal = journal
        self._arithmetic = arithmetic

    def __next__(self) -> EpochMetrics:
        with self._arithmetic():
            return next(self._epochs)

    def checkpoint(self) -> Checkpoint | None:
        """Where the trial is, for run_trial to go on from.

        None before its first epoch and behind its last one, and while a trial that was resumed says
        again what it had reported.
        """
        return self._journal.checkpoint()

    @property
    def trained(self) -> Mapping[str, bytes] | None:
        """Files of what was tested by name, behind the last epoch of a trial that keeps them."""
        return self._journal.trained
