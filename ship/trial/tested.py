"""The test: each exam once, at what selection chose for each seed."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor

from ship.epoch_metrics import Hits
from ship.finetuners import FusedFinetuner
from ship.protocols import Exam, Final, Protocol
from ship.training import Kept, State, prefixed, under
from ship.transfer import fetched
from ship.trial.selection import FINITE, Best, require_finite
from ship.trial.trained import learned_by

# Before what is no metric, among what an exam has given: the kind of answer, and what was learned.
_RIGHT, _LEARNED = "right/", "learned/"


class Tested(Kept):
    """What each exam of the finals that are over has given, as FINAL.EXAM.NAME, on the CPU.

    A metric is (replica,), the right answers of a kind are (replica, n). The first exam of a final
    also has what its fine-tuner has learned, if that is kept.
    """

    def __init__(self, keep: bool = False) -> None:
        """Build it.

        Args:
            keep: whether what fine-tuners have learned is kept.
        """
        super().__init__({})
        self._keep = keep

    @property
    def n_finals(self) -> int:
        """Finals that are over."""
        return len({name.split(".")[0] for name in self.tensors})

    def add(self, finetuner: FusedFinetuner, final: Final, protocol: Protocol, best: Best) -> None:
        """Test a fine-tuner on a final's exams.

        Args:
            finetuner: at the state that selection chose.
            final: whose exams it takes.
            protocol: scores the answers.
            best: what selection chose for each replica.
        """
        place = self.n_finals
        for number, exam in enumerate(final.exams):
            given = examine(finetuner, exam, protocol, best)
            self.tensors |= prefixed(f"{place}.{number}", given)
        if self._keep:
            learned = {f"{_LEARNED}{n}": v for n, v in (learned_by(finetuner) or {}).items()}
            self.tensors |= prefixed(f"{place}.0", learned)

    @property
    def learned(self) -> list[State]:
        """What the fine-tuner of each final has learned, (replica, ...) each; {}: not kept."""
        given = [under(self.tensors, f"{place}.0") for place in range(self.n_finals)]
        return [_starting(_LEARNED, first) for first in given]

    def metrics(self, finals: Sequence[Final]) -> list[dict[str, Tensor]]:
        """The metrics of all finals' exams in order, (replica,) each.

        Args:
            finals: those that were tested.
        """
        return [
            {name: v for name, v in given.items() if not name.startswith((_RIGHT, _LEARNED))}
            for _, given in self._given(finals)
        ]

    def hits(self, finals: Sequence[Final]) -> tuple[Hits, ...]:
        """The right answers on all finals' exams, in order.

        Args:
            finals: those that were tested.
        """
        return tuple(
            Hits(
                exam=exam.name,
                class_ids=tuple(exam.pictures.labels.tolist()),
                class_names=exam.task.class_names,
                # the classes of a final that are seen are the same for every replica
                seen=tuple(exam.task.seen[0].tolist()),
                right={kind: _bits(value) for kind, value in _starting(_RIGHT, given).items()},
            )
            for exam, given in self._given(finals)
        )

    def _given(self, finals: Sequence[Final]) -> Iterator[tuple[Exam, State]]:
        for place, final in enumerate(finals):
            for number, exam in enumerate(final.exams):
                yield exam, under(self.tensors, f"{place}.{number}")


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
        Metrics by name, (replica,) each, in percent; and the right answers by kind, (replica, n)
        each. All are on the CPU.

    Raises:
        NonFiniteLoss: as evaluate does.
    """
    kept = Kept({})
    for index in best.choice.unique().tolist():
        choice = finetuner.choices[index]
        answers = exam.answers(finetuner.logits(exam.pictures.features, choice))
        found = protocol.score(answers, exam, best.metrics)
        if exam.competing is None:
            found[f"{_RIGHT}own"] = answers.own_right
        found = fetched({**found, f"{_RIGHT}all": answers.right, FINITE: answers.finite})
        require_finite(found.pop(FINITE))
        kept.take(best.choice == index, found)
        del answers  # before the next logits are made
    return kept.tensors


def _bits(right: Tensor) -> tuple[bytes, ...]:
    """Each replica's answers as bits (see Hits)."""
    return tuple(np.packbits(row).tobytes() for row in right.numpy())


def _starting(prefix: str, given: Mapping[str, Tensor]) -> State:
    """Those whose names begin so, by the rest of the name."""
    return {n.removeprefix(prefix): v for n, v in given.items() if n.startswith(prefix)}
