"""What a trial has trained, held for all of its replicas, and each seed's part of it as files."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import safetensors.torch
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.features import FeatureSet
from ship.finetuners import Finetuner
from ship.generators import Generator
from ship.tasks import Task
from ship.training import State, capture, copied, prefixed
from ship.trial.trained.form import (
    FORMAT,
    MOST_TENSORS,
    SAID,
    Said,
    SaidModel,
    SaidSeed,
    SaidTask,
)
from ship.trial_config import RESULTS_VERSION, TrialConfig

PACKAGES = ("ship-sweep", "torch", "open_clip_torch", "safetensors")


@dataclass(frozen=True)
class Origin:
    """What a trial was trained with and on, beside its settings.

    backbone_fingerprint, dataset_fingerprint: of weights and pictures.
    template: the dataset's prompt with one {} for a class name.
    """

    backbone_fingerprint: str
    dataset_fingerprint: str
    template: str

    @classmethod
    def of(cls, features: FeatureSet, clip: FrozenCLIP) -> "Origin":
        """That of a trial on these features."""
        return cls(clip.fingerprint, features.dataset_fingerprint, features.template)


@dataclass(frozen=True)
class ModelTask:
    """The task of a tested fine-tuner; target: cross_dataset: what it is for, "" elsewhere."""

    target: str
    task: Task


@dataclass(frozen=True)
class Trained:
    """All that a trial has trained, as it was tested.

    config: the setting.
    seeds: of each replica.
    generator_task, models: what the generator was fitted on, and the fine-tuners' tasks.
    generator: what it has learned (see learned_by), (replica, ...) each; None: there is none.
    finetuners: what that of each model has learned, (replica, ...) each.
    epochs: that each replica was tested at, (replica,).
    choices: for inference, of each replica.
    """

    config: TrialConfig
    seeds: Sequence[int]
    origin: Origin
    generator_task: Task
    models: Sequence[ModelTask]
    generator: State | None
    finetuners: Sequence[State]
    epochs: Tensor
    choices: Sequence[Mapping[str, float]]

    def files(self) -> dict[str, bytes]:
        """The files by name: trained.json, and a safetensors file for each seed.

        A seed whose file would be larger than MOST_TENSORS has none, and trained.json says so.
        """
        tasks = self._tasks()
        files: dict[str, bytes] = {}
        seeds = []
        for place, seed in enumerate(self.seeds):
            name = f"seed_{seed}.safetensors"
            data = safetensors.torch.save(self._tensors(place, tasks))
            kept = len(data) <= MOST_TENSORS
            files |= {name: data} if kept else {}
            seeds.append(
                SaidSeed(
                    seed=seed,
                    epoch=int(self.epochs[place]),
                    choice=dict(self.choices[place]),
                    file=name,
                    bytes=len(data),
                    blake2b=digest(data) if kept else "",
                )
            )
        said = self._said(tasks, seeds)
        return {SAID: said.model_dump_json(indent=1).encode(), **files}

    def _tasks(self) -> list[Task]:
        """Each task once, the generator's first."""
        found = [self.generator_task]
        for model in self.models:
            if not any(model.task is task for task in found):
                found.append(model.task)
        return found

    def _tensors(self, place: int, tasks: Sequence[Task]) -> State:
        learned = prefixed("generator", self.generator or {})
        for number, state in enumerate(self.finetuners):
            learned |= prefixed(f"models.{number}", state)
        own = {name: value[place : place + 1].clone() for name, value in learned.items()}
        for number, task in enumerate(tasks):
            own[f"tasks.{number}.text_features"] = copied(task.text_features)
        return own

    def _said(self, tasks: list[Task], seeds: list[SaidSeed]) -> Said:
        return Said(
            format=FORMAT,
            results_version=RESULTS_VERSION,
            settings=self.config,
            backbone_fingerprint=self.origin.backbone_fingerprint,
            dataset_fingerprint=self.origin.dataset_fingerprint,
            template=self.origin.template,
            tasks=tuple(map(_said_task, tasks)),
            generator_task=0,
            generator_kept=self.generator is not None,
            models=tuple(
                SaidModel(
                    target=model.target,
                    task=next(i for i, task in enumerate(tasks) if task is model.task),
                )
                for model in self.models
            ),
            seeds=tuple(seeds),
            notes=self._notes(seeds),
            versions={name: _version(name) for name in PACKAGES},
        )

    def _notes(self, seeds: Sequence[SaidSeed]) -> tuple[str, ...]:
        notes = []
        if self.generator is None:
            notes.append(f"generator {self.config.generator.name} has nothing to keep")
        if not any(self.finetuners):
            notes.append(
                f"finetuner {self.config.finetuner.name} has nothing to keep: its logits are "
                f"given by the backbone and the names of the classes"
            )
        large = [str(seed.seed) for seed in seeds if not seed.blake2b]
        if large:
            notes.append(f"seeds {', '.join(large)}: larger than {MOST_TENSORS} bytes, not kept")
        return tuple(notes)


def learned_by(part: Generator | Finetuner | None) -> State | None:
    """What a part has learned, as copies on the CPU; None: it cannot be kept, or is not there."""
    learned = None if part is None else part.learned()
    return None if learned is None else capture(learned)


def digest(data: bytes) -> str:
    """Of a file's content, 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _said_task(task: Task) -> SaidTask:
    n_base = int(task.seen[0].sum())
    if not bool(task.seen[:, :n_base].all()):
        raise ValueError("the classes of a tested task must stand in order, the seen ones first")
    return SaidTask(base=task.class_names[:n_base], new=task.class_names[n_base:])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
