"""The contract of a fine-tuner, clause by clause, without and with synthetic features."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from ship.configs import FINETUNERS
from ship.configs.generators import GaussianTextConfig
from ship.finetuners import FusedFinetuner, build_finetuner
from ship.generators.fit import FusedGenerator
from ship.generators.gaussians import GaussianText
from ship.synthesis import Synthesizer
from ship.tasks import Pictures, Task
from ship.testing.bench import (
    Bench,
    frozen,
    packaged_bench,
    require_epoch_of_seed,
    require_equal,
    require_members,
    require_numbers,
    require_untouched,
    without_pictures,
)
from ship.testing.finding import Finding, findings, require
from ship.testing.settings import quick
from ship.training import capture, restore
from ship.trial_config import SyntheticConfig

ROUNDING: Final = 1e-5
"""Of the largest logit: what a sum in another order may change.

How BLAS adds up depends on the number of pictures. In single precision, which a method may compute
in, that changes some 1e-7 of a sum of hundreds of features; a method that looks at the other
pictures changes more than ten times of what is allowed for that.
"""


@dataclass(frozen=True)
class Run:
    """A trained fine-tuner and the metrics of each epoch."""

    finetuner: FusedFinetuner
    epochs: list[dict[str, Tensor]]


@dataclass(frozen=True)
class FinetunerSubject:
    """A fine-tuner with its settings, on a bench; synthetic: whether it gets such features."""

    config: Any
    bench: Bench
    synthetic: bool

    @cached_property
    def task(self) -> Task:
        """Of all seeds."""
        return self.bench.task(self.bench.seeds)

    @cached_property
    def run(self) -> Run:
        """One run, for checks that only look at it."""
        return self.fresh(self.task, self.bench.seeds)

    def build(self, task: Task, seeds: Sequence[int]) -> FusedFinetuner:
        """A fine-tuner that is not trained."""
        clip, synthesizer = self.bench.clip, None
        if self.synthetic:
            generator = FusedGenerator(
                GaussianText, GaussianTextConfig(scale=0.1), task, clip, seeds
            )
            synthesizer = Synthesizer(SyntheticConfig(), generator, task, seeds)
        return build_finetuner(self.config, task, synthesizer, clip, seeds)

    def fresh(self, task: Task, seeds: Sequence[int]) -> Run:
        """Build and train."""
        finetuner = self.build(task, seeds)
        epochs = [finetuner.train_epoch() for _ in range(finetuner.epochs)]
        return Run(finetuner, epochs)

    def logits(self, finetuner: FusedFinetuner) -> list[Tensor]:
        """Of the test pictures, under each choice."""
        return [finetuner.logits(self.bench.pictures, choice) for choice in finetuner.choices]

    def require_same(self, ours: FusedFinetuner, what: str) -> None:
        """Raise BrokenError unless the logits are those of the run, to the bit."""
        for mine, theirs in zip(self.logits(ours), self.logits(self.run.finetuner), strict=True):
            require_equal(mine, theirs, f"logits {what}", 0)


def check_finetuner(
    name: str, settings: Mapping[str, Any] | None = None, bench: Bench | None = None
) -> Iterator[Finding]:
    """Check a fine-tuner against its contract, without and with synthetic features.

    Args:
        name: what a YAML says.
        settings: of it; None: its defaults, with 3 epochs at most.
        bench: what it is checked on; None: packaged_bench().

    Raises:
        KeyError: there is no fine-tuner of that name.
    """
    config, bench = quick(FINETUNERS[name], settings), bench or packaged_bench()
    for synthetic in (False, True):
        subject = FinetunerSubject(config, bench, synthetic)
        beside = "with synthetic features" if synthetic else "without synthetic features"
        for found in findings(FINETUNER_CHECKS, subject):
            yield replace(found, promise=f"{beside}, {found.promise}")


def _has_members(subject: FinetunerSubject) -> None:
    made = subject.build(subject.task, subject.bench.seeds)
    members = (
        "choices", "epochs", "train_epoch", "logits", "state_dict", "load_state_dict", "parts",
        "learned",
    )  # fmt: skip
    require_members(made, members)
    require(len(made.choices) > 0, "it has no choice; the one empty choice is ({},)")
    distinct = {tuple(sorted(choice.items())) for choice in made.choices}
    require(len(distinct) == len(made.choices), "one of its choices comes twice")
    planned = getattr(subject.config, "epochs", 0)
    require(
        made.epochs == planned,
        f"epochs is {made.epochs}, and the setting of that name says {planned}",
    )


def _scores_all(subject: FinetunerSubject) -> None:
    n_replicas, n_cls = len(subject.bench.seeds), len(subject.task.class_names)
    shape = [n_replicas, len(subject.bench.pictures), n_cls]
    for logits in subject.logits(subject.run.finetuner):
        require([*logits.shape] == shape, f"logits() gives {[*logits.shape]}, not {shape}")
        require(not logits.requires_grad, "logits() gives a gradient")
        require(bool(logits.isfinite().all()), "logits() gives numbers that are not finite")


def _scores_each_by_itself(subject: FinetunerSubject) -> None:
    pictures, finetuner = subject.bench.pictures, subject.run.finetuner
    for choice, whole in zip(finetuner.choices, subject.logits(finetuner), strict=True):
        tolerance = ROUNDING * float(whole.abs().max())
        turned = finetuner.logits(pictures.flip(0), choice).flip(1)
        require_equal(turned, whole, "logits of the pictures in reverse order", tolerance)
        for place in (0, len(pictures) - 1):
            alone = finetuner.logits(pictures[place, None], choice)[:, 0]
            require_equal(alone, whole[:, place], f"logits of picture {place} alone", tolerance)


def _reports_numbers(subject: FinetunerSubject) -> None:
    for metrics in subject.run.epochs:
        require_numbers(metrics, len(subject.bench.seeds))


def _is_deterministic(subject: FinetunerSubject) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        again = subject.fresh(subject.task, subject.bench.seeds)
    subject.require_same(again.finetuner, "of a second run")


def _is_its_solo_run(subject: FinetunerSubject) -> None:
    for replica, seed in enumerate(subject.bench.seeds):
        solo = subject.fresh(subject.bench.task([seed]), [seed])
        for ours, theirs in zip(subject.run.epochs, solo.epochs, strict=True):
            require_epoch_of_seed(ours, theirs, replica, seed)
        pairs = zip(
            subject.logits(subject.run.finetuner), subject.logits(solo.finetuner), strict=True
        )
        for together, alone in pairs:
            require_equal(together[replica], alone[0], f"logits of seed {seed}")


def _resumes(subject: FinetunerSubject) -> None:
    seeds = subject.bench.seeds
    stopped = subject.build(subject.task, seeds)
    for _ in range(min(1, stopped.epochs)):
        stopped.train_epoch()
    state = capture(stopped.parts())
    resumed = subject.build(subject.task, seeds)
    restore(resumed.parts(), state)
    for _ in range(resumed.epochs - 1):
        resumed.train_epoch()
    subject.require_same(resumed, "of a run that was stopped after an epoch")


def _is_kept(subject: FinetunerSubject) -> None:
    again = subject.build(without_pictures(subject.task), subject.bench.seeds)
    restore(again.learned(), capture(subject.run.finetuner.learned()))
    subject.require_same(again, "of one that was built again")


def _goes_back(subject: FinetunerSubject) -> None:
    finetuner = subject.build(subject.task, subject.bench.seeds)
    early, state = subject.logits(finetuner), finetuner.state_dict()
    early = [logits.clone() for logits in early]
    for _ in range(finetuner.epochs):
        finetuner.train_epoch()
    finetuner.load_state_dict(state)
    for ours, theirs in zip(subject.logits(finetuner), early, strict=True):
        require_equal(ours, theirs, "logits after going back to an earlier epoch", 0)


def _only_looks(subject: FinetunerSubject) -> None:
    finetuner = subject.build(subject.task, subject.bench.seeds)
    for _ in range(finetuner.epochs):
        finetuner.train_epoch()
        finetuner.logits(-subject.bench.pictures, finetuner.choices[0])
    subject.require_same(finetuner, "after looking at other pictures between epochs")


def _leaves_frozen(subject: FinetunerSubject) -> None:
    task = subject.bench.task(subject.bench.seeds)
    before = frozen(task, subject.bench.clip)
    subject.logits(subject.fresh(task, subject.bench.seeds).finetuner)
    require_untouched(before, task, subject.bench.clip)


def _looks_at_no_unseen(subject: FinetunerSubject) -> None:
    pictures = subject.task.unseen()
    turned = [Pictures(-own.features, own.labels) for own in pictures]
    task = replace(subject.task, unseen=lambda: turned)
    made = subject.fresh(task, subject.bench.seeds).finetuner
    subject.require_same(made, "after pictures of unseen classes changed")


FINETUNER_CHECKS: Final[Mapping[str, Callable[[FinetunerSubject], None]]] = {
    "it has the members of a fine-tuner, and the epochs of its settings": _has_members,
    "every seed scores every class, in finite numbers": _scores_all,
    "a picture has the logits that it has alone, among others in any order": _scores_each_by_itself,
    "an epoch reports one finite number a seed": _reports_numbers,
    "the same seeds give the same logits, whatever torch's own seed is": _is_deterministic,
    "a seed beside others gives the numbers that it gives alone": _is_its_solo_run,
    "a run that was stopped goes on to the bit (parts)": _resumes,
    "what it has learned is all that logits need (learned)": _is_kept,
    "an earlier epoch can be put back (state_dict)": _goes_back,
    "pictures that are tested are not learned from": _only_looks,
    "CLIP's weights and the task's features are only read": _leaves_frozen,
    "pictures of unseen classes never matter": _looks_at_no_unseen,
}
"""What must hold, in words -> what looks whether it does."""
