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

# Minimum number of evaluated epochs for flag/saturated. With fewer, equal values may be chance.
MIN_EVALUATIONS: Final = 3
# Number of points by which the selection metric of the chosen epoch may be below the best value.
# Differences this small between epochs are mostly noise, because there are few selection images
# (see the study in docs/statistics.md).
TOLERANCE: Final = 2.0
# Name of the mask of finite logits. It is stored among the metrics until these are copied to the
# CPU, so that there is a single transfer.
_FINITE = "logits are finite"


class SelectedCheckpoint(SeedState):
    """Each seed's selected epoch, with its inference choice, its metrics and its trained tensors.

    The last epoch whose selection metric is within `tolerance` of the best value is chosen. Without
    a tolerance, the first epoch with the best value is chosen.

    Selection "authors" compares ages of the generator instead, i.e. numbers of epochs that it has
    been trained for (see ship.trial.run). "Epoch" then means age.

    `tensors` also has these, (seed,) each:

    - "highest": best value of the metric.
    - "peak": first epoch with the best value.
    - "evaluations": number of evaluated epochs.
    - "ties": number of evaluated epochs with the best value.

    Attributes:
        metric: Name of the selection metric.
        tolerance: Tolerance in points of the metric. None chooses the first epoch with the best
            value.
        epoch: Chosen epochs, (seed,). -1 before the first update.
        choice: Inference choices at the chosen epochs, as indices into the grid, (seed,).
        metrics: Metrics of selection at the chosen epochs, (seed,) each.
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
        """Inference choices at the chosen epochs, as indices into the grid."""
        return self.tensors["choice"]

    @property
    def metrics(self) -> State:
        """Metrics of selection at the chosen epochs."""
        return strip_prefix(self.tensors, "metrics")

    @property
    def state(self) -> State:
        """Trained tensors at the chosen epochs."""
        return strip_prefix(self.tensors, "state")

    def update(
        self, epoch: int, choice: Tensor, metrics: dict[str, Tensor], state: dict[str, Tensor]
    ) -> None:
        """Choose this epoch for the seeds whose metric is within the tolerance of their best value.

        Must be called in the order of the epochs. An epoch with a new best value is always chosen,
        so that the chosen epoch stays within the tolerance of the best value.

        Args:
            epoch: Epoch of the fine-tuner (0 before any training), or age of the generator.
            choice: Inference choice that the metrics were computed with, as an index into the grid,
                (seed,).
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
        is_chosen = improved
        if self.tolerance is not None:
            is_chosen = value >= self.tensors["highest"] - self.tolerance
        tensors = {"epoch": epochs_now, "choice": choice}
        tensors |= add_prefix("metrics", metrics) | add_prefix("state", state)
        self.set_where(is_chosen, tensors)

    def _count(self, improved: Tensor, is_equal: Tensor) -> None:
        """Update "evaluations" and "ties".

        Args:
            improved: Mask of the seeds with a new best value.
            is_equal: Mask of the seeds whose value equals their previous best value.
        """
        ties, evaluations = self.tensors["ties"], self.tensors["evaluations"]
        self.tensors["ties"] = torch.where(improved, 1, ties + is_equal.to(ties))
        self.tensors["evaluations"] = evaluations + 1

    def as_metrics(
        self, inference_grid: InferenceGrid, candidates: str = "epoch"
    ) -> dict[str, Tensor]:
        """Return each seed's selection as metrics, which are reported with the test metrics.

        Args:
            inference_grid: Inference choices of the fine-tuner.
            candidates: Kind of candidates that were compared: "epoch", or "age" of the generator.

        Returns:
            Metrics selection_NAME, (seed,) each, of the chosen epoch or age: its metrics, its
            number ("epoch" or "age"), and its inference options.
        """
        metrics = {f"selection_{name}": value for name, value in self.metrics.items()}
        metrics[f"selection_{candidates}"] = self.epoch
        for name in inference_grid[0]:
            values = torch.tensor([choice[name] for choice in inference_grid], dtype=torch.float64)
            metrics[f"selection_{name}"] = values[self.choice]
        return metrics

    def compute_flags(
        self, inference_grid: InferenceGrid, last: int, candidates: str = "epoch"
    ) -> dict[str, Tensor]:
        """Return flags of a weak selection, (seed,) of 0 or 1 each.

        - flag/last_epoch: The last epoch (or age) was better than all earlier ones.
        - flag/untrained: Epoch 0 was chosen, although there are others.
        - flag/saturated: At least half of the evaluated epochs have the best value. Not set for
          fewer than 3 evaluated epochs.
        - flag/grid_edge: A chosen inference option is the largest or the smallest value in the
          grid. 0 and CLIP-Adapter's ratio 1 are not edges, because no values exist beyond them.

        flag/untrained and flag/saturated are omitted for ages, because the number of evaluated ages
        of a seed depends on when the other seeds stop.

        Args:
            inference_grid: Inference choices of the fine-tuner.
            last: Last epoch or age that selection could choose. 0 if nothing is trained.
            candidates: Kind of candidates that were compared: "epoch", or "age" of the generator.

        Returns:
            Flags by name. Those that do not apply are omitted.
        """
        flags = {"flag/last_epoch": (self.tensors["peak"] == last).double()} if last else {}
        if last and candidates == "epoch":
            evaluations, ties = self.tensors["evaluations"], self.tensors["ties"]
            saturated = (evaluations >= MIN_EVALUATIONS) & (2 * ties >= evaluations)
            flags["flag/untrained"] = (self.epoch == 0).double()
            flags["flag/saturated"] = saturated.double()
        if len(inference_grid) > 1:
            edges: dict[str, set[float]] = {}  # edge values by name of the option
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


def select_choices(
    finetuner: BatchedFinetuner, eval_set: EvalSet, protocol: Protocol
) -> tuple[dict[str, Tensor], Tensor]:
    """Return each seed's metrics under its best inference choice, and that choice.

    Args:
        finetuner: Fine-tuner in its current state.
        eval_set: Evaluation set of selection, with n images.
        protocol: Protocol that defines the metrics and the one to maximize.

    Returns:
        Metrics in percent by name, (seed,) each; and the best choices, as indices into the
        fine-tuner's `inference_grid`, (seed,). A seed with a non-finite logit under any choice has
        the metrics NaN. All tensors are on the CPU.
    """
    scores = [
        _score_eval_set(finetuner, eval_set, protocol, choice, None)
        for choice in finetuner.inference_grid
    ]
    table = _fetch_scores({name: torch.stack([s[name] for s in scores]) for name in scores[0]})
    best = table[protocol.metric].argmax(0)  # the first, if several are equally good
    return {name: rows.gather(0, best[None])[0] for name, rows in table.items()}, best


def evaluate_selected(
    finetuner: BatchedFinetuner, eval_set: EvalSet, protocol: Protocol, selected: SelectedCheckpoint
) -> dict[str, Tensor]:
    """Test each seed on one evaluation set, with its selected inference choice.

    Args:
        finetuner: Fine-tuner in the selected state.
        eval_set: Evaluation set of a tested model, with n images.
        protocol: Protocol that defines the metrics.
        selected: Selected epoch and inference choice of each seed.

    Returns:
        Metrics in percent by name, (seed,) each, NaN for seeds with a non-finite logit; and masks
        of correct predictions, (seed, n) each. All tensors are on the CPU. The masks are

        - "correct/all": The prediction is one of all classes, or one of `eval_set.competing` if
          this is set.
        - "correct/own": The prediction is one of the base classes for images of base classes, and
          one of the new classes for images of new classes. Missing if `eval_set.competing` is set.
    """
    results = SeedState({})
    for choice_index in selected.choice.unique().tolist():
        choice = finetuner.inference_grid[choice_index]
        scores = _score_eval_set(finetuner, eval_set, protocol, choice, selected.metrics)
        results.set_where(selected.choice == choice_index, _fetch_scores(scores))
    return results.tensors


def _score_eval_set(
    finetuner: BatchedFinetuner,
    eval_set: EvalSet,
    protocol: Protocol,
    choice: Mapping[str, float],
    selection_metrics: State | None,
) -> State:
    """Compute an evaluation set's metrics under one inference choice, on the device of the logits.

    In the test the result also has custom metrics and the masks of correct predictions.

    Args:
        finetuner: Fine-tuner in the state to measure.
        eval_set: Evaluation set to measure it on.
        protocol: Protocol that defines the metrics.
        choice: Inference choice.
        selection_metrics: Metrics of selection at the chosen epoch. None during selection.
    """
    predictions = eval_set.predictions(finetuner.logits(eval_set.images.features, choice))
    scores = protocol.score(predictions, eval_set, selection_metrics)
    if selection_metrics is not None:
        custom = compute_custom(predictions, protocol.custom_metrics)
        masks = {"correct/own": predictions.group_correct} if eval_set.competing is None else {}
        masks["correct/all"] = predictions.correct
        scores = {**scores, **custom, **masks}
    return {**scores, _FINITE: predictions.finite}


def _fetch_scores(on_device: State) -> State:
    """Copy results of `_score_eval_set` to the CPU, with NaN for seeds with non-finite logits.

    Otherwise such seeds would have metrics, because argmax returns a class even from NaN.

    Args:
        on_device: Metrics and the mask `_FINITE`, (..., seed) each; and, in the test, masks of
            correct predictions, (seed, n) each; by name.
    """
    scores = to_cpu(on_device)
    is_finite = scores.pop(_FINITE)
    is_finite = is_finite.reshape(-1, is_finite.shape[-1]).all(0)
    return {
        name: value.where(is_finite, torch.nan) if value.is_floating_point() else value
        for name, value in scores.items()
    }


def get_eval_results(tested: SeedState, model_index: int, set_index: int, kind: str = "") -> State:
    """Return the results of one evaluation set by name, without prefixes.

    Args:
        tested: Flat state with the results of `evaluate_selected` under the names
            `{model_index}.{set_index}.{name}`. If models are saved, it also has the learned state
            of each tested fine-tuner, as `{model_index}.0.learned/{name}`.
        model_index: Index of the tested model in Protocol.tested_models.
        set_index: Index of the evaluation set among those of the model.
        kind: Prefix of the results to return: "correct/" or "learned/". "" returns the metrics.

    Returns:
        The results. Empty if the evaluation set has not been tested.
    """
    results = strip_prefix(tested.tensors, f"{model_index}.{set_index}")
    if not kind:
        return {n: v for n, v in results.items() if not n.startswith(("correct/", "learned/"))}
    return {n.removeprefix(kind): v for n, v in results.items() if n.startswith(kind)}


def collect_correct_predictions(
    tested: SeedState, tested_models: Sequence[TestSets]
) -> tuple[CorrectPredictions, ...]:
    """Return the correct predictions on each evaluation set, in the order of the tested models.

    Evaluation sets that were not tested are omitted.

    Args:
        tested: See get_eval_results.
        tested_models: Evaluation sets of each tested model.
    """
    return tuple(
        CorrectPredictions(
            eval_set=eval_set.name,
            class_ids=tuple(eval_set.images.labels.tolist()),
            class_names=eval_set.task.class_names,
            # all seeds of a tested model have the same seen classes
            seen=tuple(eval_set.task.seen[0].tolist()),
            correct={
                kind: tuple(row.tobytes() for row in np.packbits(value.numpy(), axis=1))
                for kind, value in correct.items()
            },
        )
        for model_index, test_sets in enumerate(tested_models)
        for set_index, eval_set in enumerate(test_sets)
        if (correct := get_eval_results(tested, model_index, set_index, "correct/"))
    )
