"""Record the progress of a trial: reported metrics, failed seeds, and the state for checkpoints.

A seed fails when one of its metrics is not finite. The other seeds continue. The state of the
failed seed is replaced by a copy of another seed's state, because some functions raise for all
seeds if one of them has a NaN. Metrics of the copy are not reported.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ship.seeds import to_cpu
from ship.state import Checkpoint, Part, State, capture, restore, strip_prefix
from ship.trial_config import CorrectPredictions, EpochMetrics, NonFiniteLoss, Stage


class Journal:
    """The reports of a trial, and the state that a checkpoint saves.

    Attributes:
        trained: Files of the tested models by name. None before the test, or if models are not
            saved.
        failed: Reason of each failure, by the index of the seed: which value is not finite, at
            which stage and epoch.
    """

    def __init__(
        self,
        n_planned: int,
        n_seeds: int,
        permanent: Mapping[str, Part],
        resume: Checkpoint | None,
    ) -> None:
        """Start a trial, or resume one.

        Args:
            n_planned: Maximum number of epochs that the trial reports. Progress is relative to it.
            n_seeds: Number of seeds of the trial.
            permanent: Parts (see ship.state) that exist throughout the trial, by name. They are
                saved in each checkpoint. The state of failed seeds in them is not replaced.
            resume: Checkpoint to resume from. None starts a new trial.
        """
        self.trained: Mapping[str, bytes] | None = None
        self._n_planned, self._permanent = n_planned, permanent
        self._active = dict(permanent)
        self._saved = resume.tensors if resume else {}
        self._history = list(resume.epochs) if resume else []
        self._old_reports = list(self._history)
        self._n_seeds = n_seeds
        self.failed = dict(self._history[-1].failed) if self._history else {}

    @property
    def active_seeds(self) -> list[int]:
        """Indices of the seeds that have not failed."""
        return [i for i in range(self._n_seeds) if i not in self.failed]

    def fail_non_finite(
        self, stage: Stage, epoch: int, metrics: Mapping[str, Tensor], subject: str = ""
    ) -> State:
        """Mark seeds with non-finite metrics as failed, and replace their state.

        Args:
            stage: Stage of the metrics.
            epoch: Epoch of the stage.
            metrics: Metrics by name, (seed,) each.
            subject: Start of the reason, e.g. "logits are". Defaults to the metric's name and "is".

        Returns:
            The metrics on the CPU. If seeds have failed, now or before, the metrics are converted
            to double precision and are NaN for these seeds.

        Raises:
            NonFiniteLoss: All seeds have failed.
        """
        on_cpu = to_cpu(metrics)
        newly_failed: dict[int, str] = {}
        for name, values in on_cpu.items():
            reason = f"{subject or f'{name} is'} not finite at stage {stage}, epoch {epoch}"
            for i in (~values.isfinite()).nonzero().flatten().tolist():
                if i not in self.failed:
                    newly_failed.setdefault(i, reason)
        if newly_failed:
            self.failed = dict(sorted({**self.failed, **newly_failed}.items()))
            if not self.active_seeds:
                raise NonFiniteLoss(self.failed)
            self._replace_state(sorted(newly_failed))
        if not self.failed:
            return on_cpu
        failed_seeds = list(self.failed)
        doubles = {name: values.double() for name, values in on_cpu.items()}
        return {
            name: values.index_fill(0, torch.tensor(failed_seeds), math.nan)
            for name, values in doubles.items()
        }

    def _replace_state(self, seed_indices: Sequence[int]) -> None:
        """Replace the state of failed seeds by a copy of an active seed's state.

        Args:
            seed_indices: Indices of the failed seeds.
        """
        for name, part in self._active.items():
            if name in self._permanent:  # selected epochs and test results are kept
                continue
            state = capture(part)
            for value in state.values():
                if value.ndim:
                    value[seed_indices] = value[self.active_seeds[0]].clone()
            restore(part, state)

    def report_epoch(
        self,
        stage: Stage,
        epoch: int,
        metrics: Mapping[str, Tensor],
        correct_predictions: tuple[CorrectPredictions, ...] = (),
    ) -> Generator[EpochMetrics, None, None]:
        """Report one epoch. A resumed trial first repeats its previous reports.

        Args:
            stage: Current stage of the trial.
            epoch: 1-based epoch of the stage. 0 if nothing has been trained in it.
            metrics: Metrics by name, (seed,) each. Seeds with non-finite ones fail.
            correct_predictions: Correct predictions of the test. Empty in other stages.

        Yields:
            The metrics of each repeated epoch, then those of this one, as Python numbers.

        Raises:
            NonFiniteLoss: All seeds have failed.
        """
        checked = self.fail_non_finite(stage, epoch, metrics)
        values = {
            name: tuple(
                None if i in self.failed else float(value)
                for i, value in enumerate(metric.tolist())
            )
            for name, metric in checked.items()
        }
        progress = 1.0
        if stage != "test":
            progress = min((len(self._history) + 1) / self._n_planned, 1.0)
        report = EpochMetrics(
            stage,
            epoch,
            progress,
            values,
            self._blank_failed_seeds(correct_predictions),
            self.failed,
        )
        # checkpoint() returns None while reports are repeated, because this epoch has already
        # changed the state
        yield from self._old_reports
        self._old_reports = []
        self._history.append(report)
        yield report

    def _blank_failed_seeds(
        self, correct_predictions: Sequence[CorrectPredictions]
    ) -> tuple[CorrectPredictions, ...]:
        """Return correct predictions with b"" instead of those of failed seeds."""

        def blank_failed(rows: Sequence[bytes]) -> tuple[bytes, ...]:
            return tuple(b"" if i in self.failed else row for i, row in enumerate(rows))

        return tuple(
            replace(
                eval_set,
                correct={kind: blank_failed(rows) for kind, rows in eval_set.correct.items()},
            )
            for eval_set in correct_predictions
        )

    def count_epochs(self, *stages: Stage) -> int:
        """Return the number of reported epochs of these stages."""
        return sum(report.stage in stages for report in self._history)

    def get_last_metrics(self, *stages: Stage) -> dict[str, Tensor]:
        """Return the metrics of the last reported epoch of these stages.

        Returns:
            Metrics by name, (seed,) each, NaN for seeds that had failed by then. {} if no epoch of
            these stages has been reported.
        """
        metrics = [report.per_seed for report in self._history if report.stage in stages]
        last = metrics[-1] if metrics else {}
        return {
            name: torch.tensor([math.nan if x is None else x for x in values], dtype=torch.float64)
            for name, values in last.items()
        }

    def set_parts(self, **parts: Part | None) -> None:
        """Set the parts to save in checkpoints. In a resumed trial, restore their saved state.

        Args:
            parts: Parts that are trained now, by name. They replace those of the previous call, but
                not the permanent ones. Parts that are None are ignored.

        Raises:
            CheckpointError: The saved state belongs to another trial.
        """
        active_parts = {name: part for name, part in parts.items() if part is not None}
        self._active = {**self._permanent, **active_parts}
        for name, part in self._active.items():
            if state := strip_prefix(self._saved, name):
                restore(part, state)
                # restored only once: a part of this name in a later stage is a new one
                self._saved = {n: v for n, v in self._saved.items() if n.split(".")[0] != name}

    def checkpoint(self) -> Checkpoint | None:
        """Return a checkpoint, or None if there is none now (see TrialRun.checkpoint)."""
        if self._old_reports or not self._history or self._history[-1].stage == "test":
            return None
        return Checkpoint(tuple(self._history), capture(self._active))


@dataclass(frozen=True, eq=False)
class TrialRun(Iterator[EpochMetrics]):
    """A trial as an iterator over the metrics of its epochs.

    Each `next` runs the trial up to its next report. `checkpoint` may be called in between.

    Attributes:
        epochs: Generator that runs the trial.
        journal: Journal of the trial.
        use_precision: Function that returns the context to train in (FrozenCLIP.use_precision).
    """

    epochs: Iterator[EpochMetrics]
    journal: Journal
    use_precision: Callable[[], AbstractContextManager[None]]

    def __next__(self) -> EpochMetrics:
        with self.use_precision():
            return next(self.epochs)

    def checkpoint(self) -> Checkpoint | None:
        """Return a checkpoint for `run_trial` to resume from.

        Returns:
            The checkpoint, or None before the first epoch, after the last one, and while a resumed
            trial repeats its previous reports.
        """
        return self.journal.checkpoint()

    @property
    def trained(self) -> Mapping[str, bytes] | None:
        """Files of the tested models by name. None before the test, or if models are not saved."""
        return self.journal.trained
