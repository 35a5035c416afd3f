"""A trial on its way: what it has reported, what lives in it now, and where it was resumed.

A replica whose numbers are not finite has failed. The others go on: what is being trained gets a
copy of another replica's state in place of the failed one's. So no NaN stays in it, which some
functions refuse for all replicas at once; and what becomes of the copy is not reported.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ship.replicas import fetched
from ship.state import Checkpoint, Part, State, capture, restore, under
from ship.trial_config import EpochMetrics, Hits, NonFiniteLoss, Stage


class Journal:
    """What a trial reports; and, where it was resumed, what it needs not do again.

    trained: the files of what was tested by name, once it was, if they are kept.
    failed: place of each replica that has failed -> what was not finite, at which stage and epoch.
    """

    def __init__(
        self,
        planned: int,
        n_replicas: int,
        always: Mapping[str, Part],
        resume: Checkpoint | None,
    ) -> None:
        """Begin, or go on.

        Args:
            planned: epochs that the trial plans to report.
            n_replicas: replicas of the trial.
            always: parts that live from its beginning to its end, by name.
            resume: where it stopped.
        """
        self.trained: Mapping[str, bytes] | None = None
        self._planned, self._always = planned, always
        self._live = dict(always)
        self._held = resume.tensors if resume else {}
        self._history = list(resume.epochs) if resume else []
        self._again = list(self._history)
        self._n_replicas = n_replicas
        self.failed = dict(self._history[-1].failed) if self._history else {}

    @property
    def living(self) -> list[int]:
        """The places of the replicas that have not failed."""
        return [place for place in range(self._n_replicas) if place not in self.failed]

    def check(
        self, stage: Stage, epoch: int, metrics: Mapping[str, Tensor], what: str = ""
    ) -> State:
        """Note the replicas whose metrics are not finite, and replace their state.

        Args:
            stage: Stage of the metrics.
            epoch: Epoch of the stage.
            metrics: (replica,) each, by name.
            what: What is not finite where a metric is not. Defaults to the metric's name.

        Returns:
            The metrics on the CPU, NaN for each replica that has failed by now.

        Raises:
            NonFiniteLoss: No replica is left.
        """
        found = fetched(metrics)
        lost: dict[int, str] = {}
        for name, values in found.items():
            reason = f"{what or f'{name} is'} not finite at stage {stage}, epoch {epoch}"
            for place in (~values.isfinite()).nonzero().flatten().tolist():
                if place not in self.failed:
                    lost.setdefault(place, reason)
        if lost:
            self.failed = dict(sorted({**self.failed, **lost}.items()))
            if not self.living:
                raise NonFiniteLoss(self.failed)
            self._replace(sorted(lost))
        if not self.failed:
            return found
        places = list(self.failed)
        masked = {name: values.double() for name, values in found.items()}
        return {
            name: values.index_fill(0, torch.tensor(places), math.nan)
            for name, values in masked.items()
        }

    def _replace(self, places: Sequence[int]) -> None:
        """Give some replicas the state of one that has not failed, in all that is being trained."""
        for name, part in self._live.items():
            if name in self._always:  # what was chosen and tested stays as it was
                continue
            state = capture(part)
            for value in state.values():
                if value.ndim:
                    value[places] = value[self.living[0]].clone()
            restore(part, state)

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
            NonFiniteLoss: no replica has finite ones.
        """
        checked = self.check(stage, epoch, metrics)
        values = {
            name: tuple(
                None if place in self.failed else float(value)
                for place, value in enumerate(every.tolist())
            )
            for name, every in checked.items()
        }
        progress = min((len(self._history) + 1) / self._planned, 1.0) if stage != "test" else 1.0
        item = EpochMetrics(stage, epoch, progress, values, self._living_hits(hits), self.failed)
        yield from self._again  # meanwhile there is no checkpoint: the state is one epoch further
        self._again = []
        self._history.append(item)
        yield item

    def _living_hits(self, hits: Sequence[Hits]) -> tuple[Hits, ...]:
        """Return right answers without those of replicas that have failed."""

        def rows(every: Sequence[bytes]) -> tuple[bytes, ...]:
            return tuple(b"" if r in self.failed else row for r, row in enumerate(every))

        return tuple(
            replace(exam, right={kind: rows(every) for kind, every in exam.right.items()})
            for exam in hits
        )

    def count(self, *stages: Stage) -> int:
        """Epochs of some stages that are behind the trial."""
        return sum(item.stage in stages for item in self._history)

    def reported(self, *stages: Stage) -> dict[str, Tensor]:
        """What the last epoch of some stages has reported, (replica,) each; {}: nothing.

        NaN for replicas that had failed by then.
        """
        found = [item.per_replica for item in self._history if item.stage in stages]
        last = found[-1] if found else {}
        return {
            name: torch.tensor([math.nan if x is None else x for x in v], dtype=torch.float64)
            for name, v in last.items()
        }

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
