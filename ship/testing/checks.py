"""The contracts of a generator, a fine-tuner and a dataset, clause by clause."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ship.configs import FINETUNERS, GENERATORS
from ship.datasets import DATASETS, SPLITS, Picture, Survey, load_dataset, survey_dataset
from ship.state import capture, restore
from ship.tasks import no_pictures
from ship.testing.bench import (
    Bench,
    Finding,
    MethodSubject,
    findings,
    packaged_bench,
    require,
    require_equal,
)

EPOCHS: Final = 3
"""Where no settings are given, at most."""
LOOKED_AT: Final = 20
"""Pictures of each split of a dataset that are decoded."""
ROUNDING: Final = 1e-5
"""Of the largest logit: what a sum in another order may change.

How BLAS adds up depends on the number of pictures. In single precision, which a method may compute
in, that changes some 1e-7 of a sum of hundreds of features; a method that looks at the other
pictures changes more than ten times of what is allowed for that.
"""


def check_generator(
    name: str, settings: Mapping[str, Any] | None = None, bench: Bench | None = None
) -> Iterator[Finding]:
    """Check a generator against its contract.

    Args:
        name: what a YAML says.
        settings: of it; None: its defaults, with EPOCHS epochs at most.
        bench: what it is checked on; None: packaged_bench().

    Raises:
        KeyError: there is no generator of that name.
    """
    subject = MethodSubject(_quick(GENERATORS[name], settings), bench or packaged_bench())
    return findings(GENERATOR_CHECKS, {"": subject})


def check_finetuner(
    name: str, settings: Mapping[str, Any] | None = None, bench: Bench | None = None
) -> Iterator[Finding]:
    """Check a fine-tuner against its contract, without and with synthetic features.

    Args:
        name, settings, bench: as of check_generator.

    Raises:
        KeyError: there is no fine-tuner of that name.
    """
    config, bench = _quick(FINETUNERS[name], settings), bench or packaged_bench()
    subjects = {
        "without synthetic features, ": MethodSubject(config, bench),
        "with synthetic features, ": MethodSubject(config, bench, synthetic=True),
    }
    return findings(FINETUNER_CHECKS, subjects)


def _quick(config: type[Any], settings: Mapping[str, Any] | None) -> Any:
    """As they are asked for, or the defaults with little to train."""
    if settings is None:
        epochs = getattr(config(), "epochs", 0)
        settings = {"epochs": EPOCHS} if epochs > EPOCHS else {}
    return config(**settings)


def _runs(subject: MethodSubject) -> None:
    require(bool(subject.run.answers), "it has no choice; the one empty choice is ({},)")


def _is_finite(subject: MethodSubject) -> None:
    task = subject.task
    for answer in subject.run.answers:
        shape = [task.n_replicas, 2 * task.synthesized_ids.shape[1], subject.bench.clip.feature_dim]
        if subject.answer == "logits":
            shape = [task.n_replicas, len(subject.bench.pictures), len(task.class_names)]
        require([*answer.shape] == shape, f"{subject.answer} are {[*answer.shape]}, not {shape}")
        require(bool(answer.isfinite().all()), f"some {subject.answer} are not finite")


def _reports_numbers(subject: MethodSubject) -> None:
    for name, value in (item for metrics in subject.run.epochs for item in metrics.items()):
        shape = [len(subject.bench.seeds)]
        require([*value.shape] == shape, f"{name} of an epoch is {[*value.shape]}, not {shape}")
        require(bool(value.isfinite().all()), f"{name} of an epoch is not finite")


def _is_deterministic(subject: MethodSubject) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        again = subject.fresh(subject.task, subject.bench.seeds)
        subject.require_same(again.made, "of a second run")


def _is_its_solo_run(subject: MethodSubject) -> None:
    for replica, seed in enumerate(subject.bench.seeds):
        solo = subject.fresh(subject.bench.task([seed]), [seed])
        # a seed that has stopped early trains no longer where it is alone
        for ours, theirs in zip(subject.run.epochs, solo.epochs, strict=False):
            for name, value in theirs.items():
                require_equal(ours[name][replica], value[0], f"{name} of seed {seed}")
        for together, alone in zip(subject.run.answers, solo.answers, strict=True):
            require_equal(together[replica], alone[0], f"{subject.answer} of seed {seed}")


def _resumes(subject: MethodSubject) -> None:
    stopped, resumed = (subject.build(subject.task, subject.bench.seeds) for _ in range(2))
    for _ in range(min(1, stopped.epochs)):
        stopped.train_epoch()
    restore(resumed.parts(), capture(stopped.parts()))
    for _ in range(len(subject.run.epochs) - 1):
        resumed.train_epoch()
    subject.require_same(resumed, "of a run that was stopped after an epoch")


def _is_kept(subject: MethodSubject) -> None:
    task = subject.task
    blank = replace(task, **no_pictures(task.text_features, task.n_replicas))
    again = subject.build(blank, subject.bench.seeds)
    restore(again.learned() or {}, capture(subject.run.made.learned() or {}))
    subject.require_same(again, "of one that was built again")


def _only_reads(subject: MethodSubject) -> None:
    task, model = subject.bench.task(subject.bench.seeds), subject.bench.clip._model
    tensors = {f"task.{name}": x for name, x in vars(task).items() if isinstance(x, Tensor)}
    tensors |= {f"CLIP's {name}": value for name, value in model.state_dict().items()}
    before = {name: value.clone() for name, value in tensors.items()}
    subject.fresh(task, subject.bench.seeds)
    changed = [name for name, value in tensors.items() if not torch.equal(value, before[name])]
    require(not changed, f"{', '.join(changed[:5])} was written to")


def _is_unit_norm(subject: MethodSubject) -> None:
    (norms,) = (samples.norm(dim=-1) for samples in subject.run.answers)
    require_equal(norms, torch.ones_like(norms), "norms of samples and 1", 1e-5)


def _is_as_set(subject: MethodSubject) -> None:
    made, planned = subject.run.made, getattr(subject.config, "epochs", 0)
    distinct = {tuple(sorted(choice.items())) for choice in made.choices}
    require(len(distinct) == len(made.choices), "one of its choices comes twice")
    require(made.epochs == planned, f"it trains for {made.epochs} epochs, and is set to {planned}")


def _scores_each_by_itself(subject: MethodSubject) -> None:
    pictures, finetuner = subject.bench.pictures, subject.run.made
    for choice, whole in zip(finetuner.choices, subject.run.answers, strict=True):
        tolerance = ROUNDING * float(whole.abs().max())
        turned = finetuner.logits(pictures.flip(0), choice).flip(1)
        require_equal(turned, whole, "logits of the pictures in reverse order", tolerance)
        for place in (0, len(pictures) - 1):
            alone = finetuner.logits(pictures[place, None], choice)[:, 0]
            require_equal(alone, whole[:, place], f"logits of picture {place} alone", tolerance)


def _goes_back(subject: MethodSubject) -> None:
    early, later = (subject.build(subject.task, subject.bench.seeds) for _ in range(2))
    state = later.state_dict()
    for _ in range(later.epochs):
        later.train_epoch()
    later.load_state_dict(state)
    pairs = (subject.answers(one, subject.task, subject.bench.seeds) for one in (later, early))
    for ours, theirs in zip(*pairs, strict=True):
        require_equal(ours, theirs, "logits after going back to an earlier epoch", 0)


def _only_looks(subject: MethodSubject) -> None:
    finetuner = subject.build(subject.task, subject.bench.seeds)
    for _ in range(finetuner.epochs):
        finetuner.train_epoch()
        finetuner.logits(-subject.bench.pictures, finetuner.choices[0])
    subject.require_same(finetuner, "after looking at other pictures between epochs")


Checks = Mapping[str, Callable[[MethodSubject], None]]
METHOD_CHECKS: Final[Checks] = {
    "it can be built, trained and asked": _runs,
    "all its answers are there, in finite numbers": _is_finite,
    "an epoch reports one finite number a seed": _reports_numbers,
    "the same seeds give the same numbers, whatever torch's own seed is": _is_deterministic,
    "a seed beside others gives the numbers that it gives alone": _is_its_solo_run,
    "a run that was stopped goes on to the bit": _resumes,
    "what it has learned (parameters, persistent buffers) is all that it answers from": _is_kept,
    "CLIP's weights and the task's features are only read": _only_reads,
}
"""What must hold of generators and fine-tuners, in words -> what looks whether it does."""
GENERATOR_CHECKS: Final[Checks] = {**METHOD_CHECKS, "samples are of unit norm": _is_unit_norm}
FINETUNER_CHECKS: Final[Checks] = {
    **METHOD_CHECKS,
    "its choices differ, and it trains for the epochs of its settings": _is_as_set,
    "a picture has the logits that it has alone, among others in any order": _scores_each_by_itself,
    "an earlier epoch can be put back": _goes_back,
    "pictures that are tested are not learned from": _only_looks,
}


@dataclass(frozen=True)
class DatasetSubject:
    """A dataset by its name; data_root: the folder of the datasets' folders, or None."""

    name: str
    data_root: Path | None

    @cached_property
    def survey(self) -> Survey:
        """What lies on disk."""
        return survey_dataset(self.name, self.data_root)


def check_dataset(name: str, data_root: Path | None = None) -> Iterator[Finding]:
    """Check a dataset against its contract; no picture is encoded.

    Args:
        name: what a YAML says.
        data_root: the folder that holds the datasets' folders.
    """
    return findings(DATASET_CHECKS, {"": DatasetSubject(name, data_root)})


def _is_sound(subject: DatasetSubject) -> None:
    require(not subject.survey.faults, "; ".join(subject.survey.faults[:5]))
    names = subject.survey.class_names
    require(len(names) >= 2, f"it has {len(names)} classes, and must have at least 2")
    require(all(isinstance(name, str) for name in names), "class names must be text")


def _has_template(subject: DatasetSubject) -> None:
    template = DATASETS[subject.name].template
    found = template.count("{}") if isinstance(template, str) else 0
    require(found == 1, f"template is {template!r}, and must have one {{}} for a class name")


def _is_labelled(subject: DatasetSubject) -> None:
    n_cls = len(subject.survey.class_names)
    require(set(subject.survey.splits) == set(SPLITS), f"splits must be {', '.join(SPLITS)}")
    for name, split in subject.survey.splits.items():
        labels = split.labels
        require(
            isinstance(labels, np.ndarray) and labels.dtype == np.int64 and labels.ndim == 1,
            f"labels of {name} must be a one-dimensional int64 array",
        )
        require(len(labels) == len(split.pictures), f"{name} has not one label a picture")
        inside = not len(labels) or (labels.min() >= 0 and labels.max() < n_cls)
        require(bool(inside), f"labels of {name} must lie from 0 to {n_cls - 1}")
    require(len(subject.survey.splits["test"]) > 0, "test has no pictures")


def _can_be_decoded(subject: DatasetSubject) -> None:
    for name, split in subject.survey.splits.items():
        step = max(1, math.ceil(len(split) / LOOKED_AT))
        for picture in split.pictures[::step]:
            require(type(picture) is Picture, "pictures must be ship.datasets.Picture itself")
            mode = picture.open().mode
            require(mode == "RGB", f"{picture.name} of {name} is decoded as {mode}")


def _is_the_same_again(subject: DatasetSubject) -> None:
    first, second = (load_dataset(subject.name, subject.data_root) for _ in range(2))
    require(first.fingerprint == second.fingerprint, "a second reading gives another fingerprint")
    require(first.class_names == second.class_names, "a second reading gives other class names")


DATASET_CHECKS: Final[Mapping[str, Callable[[DatasetSubject], None]]] = {
    "it can be read, and has classes": _is_sound,
    "its template has one place for a class name": _has_template,
    "every picture of every split has a label of a class": _is_labelled,
    "pictures can be decoded (some of each split)": _can_be_decoded,
    "a second reading gives the same": _is_the_same_again,
}
"""What must hold, in words -> what looks whether it does."""
