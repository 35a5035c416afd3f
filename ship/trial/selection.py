"""Selection: which epoch and which inference choice each seed is tested at; and the test there."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ship.finetuners import FusedFinetuner
from ship.protocols import Exam, FinalExams, Protocol
from ship.replicas import Kept, fetched
from ship.state import State, prefixed, under
from ship.trial_config import Hits

Choices = Sequence[Mapping[str, float]]

# With fewer evaluated epochs, equal values do not show that selection is saturated.
MIN_EVALUATIONS: Final = 3
# Points of the selection metric by which a later epoch may be below the best one. Differences of
# this size between epochs are noise of the selection images (tests/bench/bench_selection.py).
TOLERANCE: Final = 1.0
# Among an exam's metrics until they are fetched: whether the logits were finite.
_FINITE = "logits are finite"


class Best(Kept):
    """Each replica's chosen epoch and inference choice by the selection metric.

    The last epoch whose metric is within `tolerance` of the best is chosen. Without a tolerance it
    is the first of the best epochs.

    metric: what is compared.
    tolerance: In points of the metric; None: the best epoch itself is chosen.
    epoch, choice: (replica,) whole numbers; -1 and 0 before the first update.
    highest, peak: (replica,) best value of the metric, and the first epoch that had it.
    evaluations, ties: (replica,) numbers of the epochs that were evaluated, and of those among them
        with the best value.
    metrics: at the chosen epoch, (replica,) each.
    state: the trained tensors of each replica at its chosen epoch.
    """

    def __init__(self, n_replicas: int, metric: str, tolerance: float | None) -> None:
        zeros = torch.zeros(n_replicas, dtype=torch.long)
        counts = {"evaluations": zeros, "ties": zeros}
        highest = torch.full((n_replicas,), -torch.inf, dtype=torch.float64)
        epochs = {"epoch": zeros - 1, "peak": zeros - 1}
        super().__init__({**epochs, "choice": zeros, "highest": highest, **counts})
        self.metric = metric
        self.tolerance = tolerance

    @property
    def epoch(self) -> Int[Tensor, " replica"]:
        """The chosen epoch."""
        return self.tensors["epoch"]

    @property
    def choice(self) -> Int[Tensor, " replica"]:
        """Place of the inference choice at the chosen epoch."""
        return self.tensors["choice"]

    @property
    def metrics(self) -> State:
        """Selection's metrics at the chosen epoch."""
        return under(self.tensors, "metrics")

    @property
    def state(self) -> State:
        """What was trained by the chosen epoch."""
        return under(self.tensors, "state")

    def update(
        self, epoch: int, choice: Tensor, metrics: dict[str, Tensor], state: dict[str, Tensor]
    ) -> None:
        """Choose this epoch for the replicas whose metric is high enough.

        An epoch that was chosen before the metric rose is replaced when it rises, so that all
        comparisons end up being with the best value of all epochs.

        Args:
            epoch: number of the epoch (0: before any training), or age of the generator.
            choice: (replica,) place of the inference choice that the metrics are of.
            metrics: (replica,) each, in percent, the selection metric among them.
            state: (replica, ...) each, what was trained, by name.
        """
        value = metrics[self.metric].double()
        highest = self.tensors["highest"]
        improved = value > highest
        self._count(improved, value == highest)
        here = torch.full_like(self.epoch, epoch)
        self.tensors["highest"] = torch.where(improved, value, highest)
        self.tensors["peak"] = torch.where(improved, here, self.tensors["peak"])
        chosen = improved
        if self.tolerance is not None:
            chosen = value >= self.tensors["highest"] - self.tolerance
        new = {"epoch": here, "choice": choice}
        new |= prefixed("metrics", metrics) | prefixed("state", state)
        self.take(chosen, new)

    def _count(self, better: Tensor, equal: Tensor) -> None:
        """Count an evaluation, and whether its value is the best one, for each replica."""
        ties, evaluations = self.tensors["ties"], self.tensors["evaluations"]
        self.tensors["ties"] = torch.where(better, 1, ties + equal.to(ties))
        self.tensors["evaluations"] = evaluations + 1

    def named(self, choices: Choices, counted: str = "epoch") -> dict[str, Tensor]:
        """What was chosen, as it is reported beside the test metrics.

        Args:
            choices: those that were tried at inference.
            counted: what the candidates were: "epoch", or "age" of the generator.
        """
        found = {f"selection_{name}": value for name, value in self.metrics.items()}
        found[f"selection_{counted}"] = self.epoch
        for name in choices[0]:
            picked = torch.tensor([choice[name] for choice in choices], dtype=torch.float64)
            found[f"selection_{name}"] = picked[self.choice]
        return found

    def flags(self, choices: Choices, last: int, counted: str = "epoch") -> dict[str, Tensor]:
        """Return what weakens the choice, (replica,) of 0 or 1 each.

        flag/last_epoch: the last epoch (or age) was better than all others. flag/untrained: epoch 0
        was chosen, though there are others. flag/saturated: at least half of the evaluated epochs,
        of 3 or more, share the best value. Ages have neither, as which are evaluated depends on the
        other replicas.
        flag/grid_edge: the largest value tried at inference was the best, or the smallest; 0 is no
        edge, since nothing lies beyond it, and neither is a CLIP-Adapter's ratio of 1.

        Args:
            choices: those that were tried at inference.
            last: number of the last epoch; 0: nothing is trained.
            counted: what the candidates were: "epoch", or "age" of the generator.
        """
        found = {"flag/last_epoch": (self.tensors["peak"] == last).double()} if last else {}
        if last and counted == "epoch":
            evaluations, ties = self.tensors["evaluations"], self.tensors["ties"]
            saturated = (evaluations >= MIN_EVALUATIONS) & (2 * ties >= evaluations)
            found["flag/untrained"] = (self.epoch == 0).double()
            found["flag/saturated"] = saturated.double()
        tried = {name: {choice[name] for choice in choices} for name in choices[0]}
        edges = {name: {max(own), min(own)} - {0.0} for name, own in tried.items() if len(own) > 1}
        if "ratio" in edges:
            edges["ratio"] -= {1.0}
        if len(choices) > 1:
            at_edge = [any(one[name] in own for name, own in edges.items()) for one in choices]
            found["flag/grid_edge"] = torch.tensor(at_edge)[self.choice].double()
        return found


def evaluate(
    finetuner: FusedFinetuner, exam: Exam, protocol: Protocol
) -> tuple[dict[str, Tensor], Tensor]:
    """Metrics of each replica under its best inference choice, and which one that is.

    Args:
        finetuner: as far as it has been trained.
        exam: what selection looks at, of n pictures.
        protocol: scores the answers, and names what is maximised.

    Returns:
        Metrics by name, (replica,) each, in percent, NaN for replicas with a logit that is not
        finite; and places in the fine-tuner's choices, (replica,) whole numbers. All are on the
        CPU.
    """
    scored = [_scored(finetuner, exam, protocol, choice, None) for choice in finetuner.choices]
    table = _sound({name: torch.stack([s[name] for s in scored]) for name in scored[0]})
    best = table[protocol.metric].argmax(0)  # the first of equals
    return {name: rows.gather(0, best[None])[0] for name, rows in table.items()}, best


def examine(
    finetuner: FusedFinetuner, exam: Exam, protocol: Protocol, best: Best
) -> dict[str, Tensor]:
    """Test metrics and right answers of one exam, under the inference choice that selection chose.

    Args:
        finetuner: at the state that selection chose.
        exam: a final's, of n pictures.
        protocol: scores the answers.
        best: what selection chose for each replica.

    Returns:
        Metrics by name, (replica,) each, in percent, NaN as evaluate gives it; and the right
        answers by kind, (replica, n) each. All are on the CPU.
    """
    kept = Kept({})
    for place in best.choice.unique().tolist():
        choice = finetuner.choices[place]
        found = _sound(_scored(finetuner, exam, protocol, choice, best.metrics))
        kept.take(best.choice == place, found)
    return kept.tensors


def _scored(
    finetuner: FusedFinetuner,
    exam: Exam,
    protocol: Protocol,
    choice: Mapping[str, float],
    chosen: State | None,
) -> State:
    """An exam's metrics under one inference choice, where the logits are; of the test, answers too.

    Args:
        chosen: selection's metrics at its choice; None: while it is choosing.
    """
    answers = exam.answers(finetuner.logits(exam.pictures.features, choice))
    found = protocol.score(answers, exam, chosen)
    if chosen is not None:
        own = {"right/own": answers.own_right} if exam.competing is None else {}
        found = {**found, **own, "right/all": answers.right}
    return {**found, _FINITE: answers.finite}


def _sound(scored: State) -> State:
    """What _scored gave, fetched with one wait; NaN where argmax took a NaN for a class."""
    found = fetched(scored)
    finite = found.pop(_FINITE)
    finite = finite.reshape(-1, finite.shape[-1]).all(0)
    return {
        name: value.where(finite, torch.nan) if value.is_floating_point() else value
        for name, value in found.items()
    }


def exam_results(tested: Kept, place: int, number: int, kind: str = "") -> State:
    """What examine gave of one exam, without the prefixes of its names.

    Args:
        tested: by FINAL.EXAM.NAME, what examine gave of each exam of the finals that are over; and,
            as FINAL.0.learned/NAME, what a final's fine-tuner has learned, if that is kept.
        place, number: of the final, and of its exam.
        kind: "right/", "learned/", or "" for the metrics.
    """
    found = under(tested.tensors, f"{place}.{number}")
    if not kind:
        return {n: v for n, v in found.items() if not n.startswith(("right/", "learned/"))}
    return {n.removeprefix(kind): v for n, v in found.items() if n.startswith(kind)}


def right_answers(tested: Kept, finals: Sequence[FinalExams]) -> tuple[Hits, ...]:
    """The right answers on all finals' exams, in order; (): there was no test."""
    return tuple(
        Hits(
            exam=exam.name,
            class_ids=tuple(exam.pictures.labels.tolist()),
            class_names=exam.task.class_names,
            # the classes of a final that are seen are the same for every replica
            seen=tuple(exam.task.seen[0].tolist()),
            right={
                kind: tuple(row.tobytes() for row in np.packbits(value.numpy(), axis=1))
                for kind, value in right.items()
            },
        )
        for place, final in enumerate(finals)
        for number, exam in enumerate(final)
        if (right := exam_results(tested, place, number, "right/"))
    )
