"""Selection: which epoch and which inference choice each seed is tested at."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ship.epoch_metrics import NonFiniteLoss
from ship.finetuners import FusedFinetuner
from ship.protocols import Exam, Protocol
from ship.training import Kept, State, prefixed, taken, under
from ship.transfer import fetched

Choices = Sequence[Mapping[str, float]]

# Among an exam's metrics until they are fetched: whether the logits were finite.
FINITE = "logits are finite"


class Best(Kept):
    """Each replica's best epoch and inference choice by the selection metric; ties keep the first.

    metric: what is compared.
    epoch, choice: (replica,) whole numbers; -1 and 0 before the first update.
    metrics: at the best epoch, (replica,) each.
    state: the trained tensors of each replica at its best epoch.
    """

    def __init__(self, n_replicas: int, metric: str) -> None:
        zeros = torch.zeros(n_replicas, dtype=torch.long)
        super().__init__({"epoch": zeros - 1, "choice": zeros})
        self.metric = metric

    @property
    def epoch(self) -> Int[Tensor, " replica"]:
        """The best epoch."""
        return self.tensors["epoch"]

    @property
    def choice(self) -> Int[Tensor, " replica"]:
        """Place of the best inference choice."""
        return self.tensors["choice"]

    @property
    def metrics(self) -> State:
        """Selection's metrics at the best epoch."""
        return under(self.tensors, "metrics")

    @property
    def state(self) -> State:
        """What was trained by the best epoch."""
        return under(self.tensors, "state")

    def update(
        self, epoch: int, choice: Tensor, metrics: dict[str, Tensor], state: dict[str, Tensor]
    ) -> None:
        """Take over the replicas whose metric rose.

        Args:
            epoch: number of the epoch (0: before any training), or age of the generator.
            choice: (replica,) place of the inference choice that the metrics are of.
            metrics: (replica,) each, in percent, the selection metric among them.
            state: (replica, ...) each, what was trained, by name.
        """
        before = self.metrics.get(self.metric, torch.tensor(-torch.inf))
        new = {"epoch": torch.full_like(self.epoch, epoch), "choice": choice}
        new |= prefixed("metrics", metrics) | prefixed("state", state)
        self.take(metrics[self.metric] > before, new)

    def named(self, choices: Choices) -> dict[str, Tensor]:
        """What was chosen, as it is reported beside the test metrics."""
        found = {f"selection_{name}": value for name, value in self.metrics.items()}
        found["selection_epoch"] = self.epoch
        for name in choices[0]:
            picked = torch.tensor([choice[name] for choice in choices], dtype=torch.float64)
            found[f"selection_{name}"] = picked[self.choice]
        return found

    def flags(self, choices: Choices, last: int) -> dict[str, Tensor]:
        """What says that a choice may lie outside what was tried, (replica,) of 0 or 1 each.

        flag/last_epoch: the last epoch (or age) was the best. flag/grid_edge: so was the largest
        value tried at inference, or the smallest; 0 is no edge, since nothing lies beyond it, and
        neither is a CLIP-Adapter's ratio of 1.

        Args:
            choices: those that were tried at inference.
            last: number of the last epoch; 0: nothing is trained.
        """
        found = {}
        if last:
            found["flag/last_epoch"] = (self.epoch == last).double()
        edges = [_at_edge(name, choices) for name in choices[0]]
        if len(choices) > 1:
            at_edge = torch.tensor([any(place) for place in zip(*edges, strict=True)])
            found["flag/grid_edge"] = at_edge[self.choice].double()
        return found

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave of as many replicas."""
        for name in ("epoch", "choice"):
            taken(state, name, self.tensors[name])
        super().load_state_dict(state)


def _at_edge(name: str, choices: Choices) -> list[bool]:
    """Whether each choice's value of a setting is the largest or smallest that was tried."""
    values = [choice[name] for choice in choices]
    bounds = {max(values), min(values)} - {0.0}
    bounds -= {1.0} if name == "ratio" else set()
    return [len(set(values)) > 1 and value in bounds for value in values]


def evaluate(
    finetuner: FusedFinetuner, exam: Exam, protocol: Protocol
) -> tuple[dict[str, Tensor], Tensor]:
    """Metrics of each replica under its best inference choice, and which one that is.

    Args:
        finetuner: as far as it has been trained.
        exam: what selection looks at, of n pictures.
        protocol: scores the answers, and names what is maximised.

    Returns:
        Metrics by name, (replica,) each, in percent; and places in the fine-tuner's choices,
        (replica,) whole numbers. All are on the CPU.

    Raises:
        NonFiniteLoss: logits are NaN or infinite, which argmax would take for a class.
    """
    scored = []
    for choice in finetuner.choices:
        answers = exam.answers(finetuner.logits(exam.pictures.features, choice))
        found = protocol.score(answers, exam, None)
        scored.append({**found, FINITE: answers.finite})
        del answers  # before the next logits are made
    table = fetched({name: torch.stack([s[name] for s in scored]) for name in scored[0]})
    require_finite(table.pop(FINITE).all(0))
    best = table[protocol.metric].argmax(0)  # the first of equals
    return {name: rows.gather(0, best[None])[0] for name, rows in table.items()}, best


def require_finite(finite: Bool[Tensor, " replica"]) -> None:
    """Check what Answers.finite says, once it has been fetched.

    Raises:
        NonFiniteLoss: with the replicas whose logits are NaN or infinite.
    """
    bad = (~finite).nonzero().flatten().tolist()
    if bad:
        raise NonFiniteLoss("logits are not finite", bad)
