"""The test: each exam once, at what selection chose for each seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ship.finetuners import Finetuner
from ship.metrics import Hits, packed
from ship.protocols import Exam, Final, Protocol
from ship.training import State, copied, under
from ship.transfer import fetched
from ship.trial.selection import Best, keep_better, require_finite
from ship.trial.trained import learned_by

# Before what is no metric, among what an exam has given: the kind of answer, and what was learned.
_RIGHT, _LEARNED = "right/", "learned/"
# Until it is fetched: whether the logits were finite.
_FINITE = "logits are finite"


@dataclass
class Tested:
    """What each exam of the finals that are over has given: final, exam, name -> tensor.

    A metric is (replica,), the right answers of a kind are (replica, n). The first exam of a final
    also has what its fine-tuner has learned, if that is kept.
    """

    keep: bool = False
    finals: list[list[dict[str, Tensor]]] = field(default_factory=list)

    def add(self, finetuner: Finetuner, final: Final, protocol: Protocol, best: Best) -> None:
        """Test a fine-tuner on a final's exams.

        Args:
            finetuner: at the state that selection chose.
            final: whose exams it takes.
            protocol: scores the answers.
            best: what selection chose for each replica.
        """
        given = [examine(finetuner, exam, protocol, best) for exam in final.exams]
        if self.keep:
            given[0] |= {f"{_LEARNED}{n}": v for n, v in (learned_by(finetuner) or {}).items()}
        self.finals.append(given)

    @property
    def learned(self) -> list[State]:
        """What the fine-tuner of each final has learned, (replica, ...) each; {}: not kept."""
        return [
            {n.removeprefix(_LEARNED): v for n, v in exams[0].items() if n.startswith(_LEARNED)}
            for exams in self.finals
        ]

    @property
    def exams(self) -> list[dict[str, Tensor]]:
        """The metrics of all finals' exams in order, (replica,) each."""
        return [
            {name: v for name, v in given.items() if not name.startswith((_RIGHT, _LEARNED))}
            for exams in self.finals
            for given in exams
        ]

    def hits(self, finals: Sequence[Final]) -> tuple[Hits, ...]:
        """The right answers on all finals' exams, in order.

        Args:
            finals: those that were tested.
        """
        return tuple(
            _hits(exam, given)
            for final, exams in zip(finals, self.finals, strict=True)
            for exam, given in zip(final.exams, exams, strict=True)
        )

    def state_dict(self) -> State:
        """Metrics by the places of their final and exam and by name, as copies on the CPU."""
        return {
            f"{place}.{number}.{name}": copied(value)
            for place, exams in enumerate(self.finals)
            for number, metrics in enumerate(exams)
            for name, value in metrics.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put back what state_dict() gave."""
        self.finals = []
        for place in range(len({key.split(".")[0] for key in state})):
            exams = under(state, str(place))
            numbers = range(len({key.split(".")[0] for key in exams}))
            self.finals.append([under(exams, str(number)) for number in numbers])


def examine(finetuner: Finetuner, exam: Exam, protocol: Protocol, best: Best) -> dict[str, Tensor]:
    """Test metrics and right answers of one exam, under the inference choice that selection chose.

    Args:
        finetuner: at the state that selection chose.
        exam: a final's, of n pictures.
        protocol: scores the answers.
        best: what selection chose for each replica.

    Returns:
        Metrics by name, (replica,) each, in percent; and the right answers by kind, (replica, n)
        each. All are on the CPU.

    Raises:
        NonFiniteLoss: as evaluate does.
    """
    metrics: dict[str, Tensor] = {}
    for index in best.choice.unique().tolist():
        choice = finetuner.choices[index]
        answers = exam.answers(finetuner.logits(exam.pictures.features, choice))
        scored = protocol.score_test(answers, exam, best.metrics)
        if exam.competing is None:
            scored[f"{_RIGHT}own"] = answers.own_right
        scored = fetched({**scored, f"{_RIGHT}all": answers.right, _FINITE: answers.finite})
        require_finite(scored.pop(_FINITE))
        metrics = keep_better(best.choice == index, scored, metrics)
    return metrics


def _hits(exam: Exam, given: Mapping[str, Tensor]) -> Hits:
    # the classes of a final that are seen are the same for every replica
    return Hits(
        exam=exam.name,
        class_ids=tuple(exam.pictures.labels.tolist()),
        class_names=exam.task.class_names,
        seen=tuple(exam.task.seen[0].tolist()),
        right={
            name.removeprefix(_RIGHT): packed(value)
            for name, value in given.items()
            if name.startswith(_RIGHT)
        },
    )
