"""Select each seed's epoch and inference choice, and test each seed with them.

An *inference choice* is an entry of a fine-tuner's `inference_grid`, e.g. an alpha and a beta.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ship.finetuners import BatchedFinetuner
from ship.metrics import compute_custom
from ship.protocols import EvalSet, Protocol, TestSets
from ship.seeds import SeedState, to_cpu
from ship.state import State, add_prefix, strip_prefix
from ship.trial_config import CorrectPredictions

InferenceGrid = Sequence[Mapping[str, float]]

# With fewer evaluated epochs, equal values do not show that selection is saturated.
MIN_EVALUATIONS: Final = 3
# Points of the selection metric by which a later epoch may be below the best one. Differences of
# this size between epochs are noise of the selection images (docs/statistics.md has the study).
TOLERANCE: Final = 2.0
# Name of the mask of finite logits, which is among the metrics until they are copied to the CPU.
_FINITE = "logits are finite"


class BestCheckpoint(SeedState):
    """Each seed's epoch and inference choice with the best selection metric.

    The last epoch whose metric is within `tolerance` of the best value is chosen. Without a
    tolerance it is the first epoch with the best value. If selection compares ages of the
    generator, they take the place of epochs.

    `tensors` also has, (seed,) each:

    - "highest" and "peak": best value of the metric, and the first epoch that had it.
    - "evaluations" and "ties": number of evaluated epochs, and of those with the best value.

    Attributes:
        metric: Name of the selection metric.
        tolerance: Tolerance in points of the metric. None chooses the best epoch itself.
        epoch: Chosen epochs, (seed,). -1 before the first update.
        choice: Indices of the chosen inference choices, (seed,).
        metrics: Selection's metrics at the chosen epoch, (seed,) each.
        state: Trained tensors of each seed at its chosen epoch.
    """

    def __init__(self, n_seeds: int, metric: str, tolerance: float | None) -> None:
        zeros = torch.zeros(n_seeds, dtype=torch.long)
        counts = {"evaluations": zeros, "ties": zeros}
        highest = torch.full((n_seeds,), -torch.inf, dtype=torch.float64)
        epochs = {"epoch": zeros - 1, "peak": zeros - 1}
        super().__init__({**epochs, "choice": zeros, "highest": highest, **counts})
        self.metric = metric
        self.tolerance = tolerance

    @property
    def epoch(self) -> Int[Tensor, " seed"]:
        """Chosen epochs."""
        return self.tensors["epoch"]

    @property
    def choice(self) -> Int[Tensor, " seed"]:
        """Indices of the inference choices at the chosen epochs."""
        return self.tensors["choice"]

    @property
    def metrics(self) -> State:
        """Selection's metrics at the chosen epochs."""
        return strip_prefix(self.tensors, "metrics")

    @property
    def state(self) -> State:
        """Trained tensors at the chosen epochs."""
        return strip_prefix(self.tensors, "state")

    def update(
        self, epoch: int, choice: Tensor, metrics: dict[str, Tensor], state: dict[str, Tensor]
    ) -> None:
        """Choose this epoch for the seeds whose metric is high enough.

        A new best epoch always replaces the chosen one, so the chosen epoch is within the tolerance
        of the best value over all epochs.

        Args:
            epoch: Epoch of the fine-tuner (0 before any training), or age of the generator.
            choice: Index of the inference choice of the metrics, (seed,).
            metrics: Metrics in percent, (seed,) each, including the selection metric.
            state: Trained tensors by name, (seed, ...) each.
        """
        value = metrics[self.metric].double()
        highest = self.tensors["highest"]
        improved = value > highest
        self._count(improved, value == highest)
        epochs_now = torch.full_like(self.epoch, epoch)
        self.tensors["highest"] = torch.where(improved, value, highest)
        self.tensors["peak"] = torch.where(improved, epochs_now, self.tensors["peak"])
        chosen = improved
        if self.tolerance is not None:
            chosen = value >= self.tensors["highest"] - self.tolerance
        tensors = {"epoch": epochs_now, "choice": choice}
        tensors |= add_prefix("metrics", metrics) | add_prefix("state", state)
        self.set_where(chosen, tensors)

    def _count(self, improved: Tensor, is_equal: Tensor) -> None:
        """Count an evaluation for each seed, and a tie if its value equals the best one."""
        ties, evaluations = self.tensors["ties"], self.tensors["evaluations"]
        self.tensors["ties"] = torch.where(improved, 1, ties + is_equal.to(ties))
        self.tensors["evaluations"] = evaluations + 1

    def as_metrics(
        self, inference_grid: InferenceGrid, candidates: str = "epoch"
    ) -> dict[str, Tensor]:
        """Return the selection as metrics, which are reported with the test metrics.

        Args:
            inference_grid: Inference choices that were tried.
            candidates: What selection compared: "epoch", or "age" of the generator.

        Returns:
            Selection's metrics, the chosen epoch or age, and the chosen inference options, each as
            selection_NAME, (seed,).
        """
        metrics = {f"selection_{name}": value for name, value in self.metrics.items()}
        metrics[f"selection_{candidates}"] = self.epoch
        for name in inference_grid[0]:
            values = torch.tensor([choice[name] for choice in inference_grid], dtype=torch.float64)
            metrics[f"selection_{name}"] = values[self.choice]
        return metrics

    def flags(
        self, inference_grid: InferenceGrid, last: int, candidates: str = "epoch"
    ) -> dict[str, Tensor]:
        """Return flags of a weak selection, (seed,) of 0 or 1 each.

        - flag/last_epoch: The last epoch (or age) was better than all others.
        - flag/untrained: Epoch 0 was chosen, although there are others.
        - flag/saturated: At least half of the evaluated epochs share the best value, and there are
          at least 3.
        - flag/grid_edge: A chosen inference option is the largest or the smallest value that was
          tried. 0 and a CLIP-Adapter's ratio of 1 are not edges, because no values exist beyond.

        Ages have no flag/untrained and flag/saturated, because the other seeds determine which ages
        are evaluated.

        Args:
            inference_grid: Inference choices that were tried.
            last: Last epoch or age. 0 if nothing is trained.
            candidates: What selection compared: "epoch", or "age" of the generator.
        """
        flags = {"flag/last_epoch": (self.tensors["peak"] == last).double()} if last else {}
        if last and candidates == "epoch":
            evaluations, ties = self.tensors["evaluations"], self.tensors["ties"]
            saturated = (evaluations >= MIN_EVALUATIONS) & (2 * ties >= evaluations)
            flags["flag/untrained"] = (self.epoch == 0).double()
            flags["flag/saturated"] = saturated.double()
        if len(inference_grid) > 1:
            edges: dict[str, set[float]] = {}
            for name in inference_grid[0]:
                values = {choice[name] for choice in inference_grid}
                if len(values) > 1:
                    edges[name] = {min(values), max(values)} - {0.0}
            if "ratio" in edges:
                edges["ratio"] -= {1.0}
            at_edge = [
                any(choice[name] in values for name, values in edges.items())
                for choice in inference_grid
            ]
            flags["flag/grid_edge"] = torch.tensor(at_edge)[self.choice].double()
        return flags


def evaluate_choices(
    finetuner: BatchedFinetuner, eval_set: EvalSet, protocol: Protocol
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the metrics of each seed under its best inference choice, and that choice.

    Args:
        finetuner: Fine-tuner in its current state.
        eval_set: Evaluation set of selection, with n images.
        protocol: Protocol that defines the metrics and the one to maximize.

    Returns:
        Metrics in percent by name, (seed,) each, NaN for seeds with a non-finite logit; and each
        seed's index into the fine-tuner's `inference_grid`, (seed,). All tensors are on the CPU.
    """
    scores = [
        _score_eval_set(finetuner, eval_set, protocol, choice, None)
        for choice in finetuner.inference_grid
    ]
    table = _fetch_scores({name: torch.stack([s[name] for s in scores]) for name in scores[0]})
    best = table[protocol.metric].argmax(0)  # the first of equals
    return {name: rows.gather(0, best[None])[0] for name, rows in table.items()}, best


def evaluate(
    finetuner: BatchedFinetuner, eval_set: EvalSet, protocol: Protocol, best: BestCheckpoint
) -> dict[str, Tensor]:
    """Test each seed on one evaluation set, under the inference choice that selection chose.

    Args:
        finetuner: Fine-tuner in the selected state.
        eval_set: Evaluation set of a final, with n images.
        protocol: Protocol that defines the metrics.
        best: Selected epoch and inference choice of each seed.

    Returns:
        Metrics in percent by name, (seed,) each, NaN for seeds with a non-finite logit; and masks
        of the correct predictions as correct/KIND, (seed, n) each. All tensors are on the CPU.
    """
    results = SeedState({})
    for choice_index in best.choice.unique().tolist():
        choice = finetuner.inference_grid[choice_index]
        scores = _fetch_scores(_score_eval_set(finetuner, eval_set, protocol, choice, best.metrics))
        results.set_where(best.choice == choice_index, scores)
    return results.tensors


def _score_eval_set(
    finetuner: BatchedFinetuner,
    eval_set: EvalSet,
    protocol: Protocol,
    choice: Mapping[str, float],
    chosen: State | None,
) -> State:
    """Compute an evaluation set's metrics under one inference choice, on the device of the logits.

    In the test the result also has the masks of the correct predictions.

    Args:
        finetuner: Fine-tuner in the state to measure.
        eval_set: Evaluation set to measure it on.
        protocol: Protocol that defines the metrics.
        choice: Inference choice.
        chosen: Selection's metrics at its choice. None during selection.
    """
    predictions = eval_set.predictions(finetuner.logits(eval_set.images.features, choice))
    scores = protocol.score(predictions, eval_set, chosen)
    if chosen is not None:
        within = {"correct/own": predictions.group_correct} if eval_set.competing is None else {}
        custom = compute_custom(predictions, protocol.custom_metrics)
        scores = {**scores, **custom, **within, "correct/all": predictions.correct}
    return {**scores, _FINITE: predictions.finite}


def _fetch_scores(on_device: State) -> State:
    """Copy the result of `_score_eval_set` to the CPU, with NaN for seeds with non-finite logits.

    Without this, argmax would predict a class even from NaN.
    """
    scores = to_cpu(on_device)
    is_finite = scores.pop(_FINITE)
    is_finite = is_finite.reshape(-1, is_finite.shape[-1]).all(0)
    return {
        name: value.where(is_finite, torch.nan) if value.is_floating_point() else value
        for name, value in scores.items()
    }


def get_eval_results(tested: SeedState, model_index: int, number: int, kind: str = "") -> State:
    """Return the results of one evaluation set by name, without prefixes.

    Args:
        tested: Results of `evaluate` on each evaluation set of the finished tested_models, as
            FINAL.SET.NAME. If models are saved, also the learned state of a final's fine-tuner, as
            FINAL.0.learned/NAME.
        model_index: Index of the final in Protocol.tested_models.
        number: Index of the evaluation set in the final.
        kind: Prefix of the results to return: "correct/" or "learned/". "" returns the metrics.

    Returns:
        The results. Empty if the evaluation set has not been tested.
    """
    results = strip_prefix(tested.tensors, f"{model_index}.{number}")
    if not kind:
        return {n: v for n, v in results.items() if not n.startswith(("correct/", "learned/"))}
    return {n.removeprefix(kind): v for n, v in results.items() if n.startswith(kind)}


def collect_correct_predictions(
    tested: SeedState, tested_models: Sequence[TestSets]
) -> tuple[CorrectPredictions, ...]:
    """Return the correct predictions on the evaluation sets of all tested_models, in order.

    Evaluation sets that were not tested are omitted.
    """
    return tuple(
        CorrectPredictions(
            eval_set=eval_set.name,
            class_ids=tuple(eval_set.images.labels.tolist()),
            class_names=eval_set.task.class_names,
            # all seeds have the same seen classes in a final
            seen=tuple(eval_set.task.seen[0].tolist()),
            correct={
                kind: tuple(row.tobytes() for row in np.packbits(value.numpy(), axis=1))
                for kind, value in correct.items()
            },
        )
        for i, final in enumerate(tested_models)
        for number, eval_set in enumerate(final)
        if (correct := get_eval_results(tested, i, number, "correct/"))
    )
