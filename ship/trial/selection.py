"""Selection: which epoch and which inference choice each seed is tested at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from ship.finetuners import Finetuner
from ship.metrics import NonFiniteLoss
from ship.protocols import Exam, Protocol
from ship.training import State, copies, prefixed, taken, under
from ship.transfer import fetched, sent

Choices = Sequence[Mapping[str, float]]

# Among an exam's metrics until they are fetched: whether the logits were finite.
_FINITE = "logits are finite"


@dataclass
class Best:
    """Each replica's best epoch and inference choice by the selection metric; ties keep the first.

    state: the trained tensors of each replica at its best epoch.
    """

    n_replicas: int
    metric: str
    epoch: Tensor = field(init=False)
    choice: Tensor = field(init=False)
    metrics: dict[str, Tensor] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.epoch = torch.full((self.n_replicas,), -1)
        self.choice = torch.zeros(self.n_replicas, dtype=torch.long)

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
        better = torch.ones(self.n_replicas, dtype=torch.bool)
        if self.metrics:
            better = metrics[self.metric] > self.metrics[self.metric]
        self.epoch = torch.where(better, epoch, self.epoch)
        self.choice = torch.where(better, choice, self.choice)
        self.metrics = keep_better(better, metrics, self.metrics)
        self.state = keep_better(better, state, self.state)

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

    def state_dict(self) -> State:
        """Epochs, choices, metrics and trained tensors by name, as copies on the CPU."""
        return {
            "epoch": self.epoch.clone(),
            "choice": self.choice.clone(),
            **prefixed("metrics", copies(self.metrics)),
            **prefixed("state", copies(self.state)),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave; the trained tensors stay on the CPU until loaded."""
        self.epoch = taken(state, "epoch", self.epoch)
        self.choice = taken(state, "choice", self.choice)
        self.metrics = under(state, "metrics")
        self.state = under(state, "state")


@dataclass
class Retrained:
    """Each replica's trained tensors at the epoch that selection chose, and its last losses."""

    state: dict[str, Tensor]
    losses: dict[str, Tensor] = field(default_factory=dict)

    def state_dict(self) -> State:
        """Trained tensors and losses by name, as copies on the CPU."""
        return {
            **prefixed("state", copies(self.state)),
            **prefixed("losses", copies(self.losses)),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave, on the CPU."""
        self.state, self.losses = under(state, "state"), under(state, "losses")


def _at_edge(name: str, choices: Choices) -> list[bool]:
    """Whether each choice's value of a setting is the largest or smallest that was tried."""
    values = [choice[name] for choice in choices]
    bounds = {max(values), min(values)} - {0.0}
    bounds -= {1.0} if name == "ratio" else set()
    return [len(set(values)) > 1 and value in bounds for value in values]


def keep_better(
    better: Tensor, new: Mapping[str, Tensor], old: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Per replica, the new tensors where `better`, the old ones elsewhere.

    Args:
        better: (replica,) bool, on the CPU.
        new: (replica, ...) each, by name.
        old: as new, on any device; a name that it lacks is taken from new for all replicas.

    Returns:
        (replica, ...) each, by the names of new and on their devices.
    """
    kept = {}
    for name, value in new.items():
        where = sent(better, value.device).reshape(-1, *[1] * (value.ndim - 1))
        # what a checkpoint gave back is on the CPU
        kept[name] = torch.where(where, value, old.get(name, value).to(value.device))
    return kept


def evaluate(
    finetuner: Finetuner, exam: Exam, protocol: Protocol
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

    def scored(choice: Mapping[str, float]) -> dict[str, Tensor]:
        # a function, so that the logits of one choice are gone before the next one's are made
        answers = exam.answers(finetuner.logits(exam.pictures.features, choice))
        return {**protocol.score_selection(answers, exam, None), _FINITE: answers.finite}

    found = list(map(scored, finetuner.choices))
    table = fetched({name: torch.stack([one[name] for one in found]) for name in found[0]})
    require_finite(table.pop(_FINITE).all(0))
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
