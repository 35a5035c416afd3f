"""What a trial has trained, as files: trained.json, and the tensors of each seed."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import safetensors.torch

from ship.clip import FrozenCLIP
from ship.features import FeatureSet
from ship.finetuners import Finetuner
from ship.generators import Generator
from ship.protocols import Protocol
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
    digest,
)
from ship.trial_config import RESULTS_VERSION, TrialConfig

PACKAGES = ("ship-sweep", "torch", "open_clip_torch", "safetensors")


def origin_of(features: FeatureSet, clip: FrozenCLIP) -> dict[str, str]:
    """What a trial is trained with and on, by its fields in trained.json."""
    return {
        "backbone_fingerprint": clip.fingerprint,
        "dataset_fingerprint": features.dataset_fingerprint,
        "template": features.template,
    }


def trained_files(
    config: TrialConfig,
    seeds: Sequence[int],
    origin: Mapping[str, str],
    protocol: Protocol,
    generator: State | None,
    finetuners: Sequence[State],
    epochs: Sequence[int],
    choices: Sequence[Mapping[str, float]],
) -> dict[str, bytes]:
    """The files by name: trained.json, and a safetensors file for each seed.

    A seed whose file would be larger than MOST_TENSORS has none, and trained.json says so.

    Args:
        config: the setting.
        seeds: of each replica.
        origin: of the trial (origin_of).
        protocol: in whose finals it was tested.
        generator: what it has learned (see learned_by), (replica, ...) each; None: there is none.
        finetuners: what that of each final has learned, (replica, ...) each.
        epochs: that each replica was tested at.
        choices: for inference, of each replica.
    """
    finals = protocol.finals
    own = [final.task for final in finals]
    # each task once, the generator's first
    tasks = {id(task): task for task in (protocol.generator_task or own[0], *own)}
    learned = prefixed("generator", generator or {})
    for number, state in enumerate(finetuners):
        learned |= prefixed(f"models.{number}", state)
    texts = {
        f"tasks.{number}.text_features": copied(task.text_features)
        for number, task in enumerate(tasks.values())
    }
    files, said_seeds, large = {}, [], []
    for place, seed in enumerate(seeds):
        name = f"seed_{seed}.safetensors"
        rows = {name: value[place : place + 1].clone() for name, value in learned.items()}
        data = safetensors.torch.save({**rows, **texts})
        if len(data) <= MOST_TENSORS:
            files[name] = data
        else:
            large.append(str(seed))
        said_seeds.append(
            SaidSeed(
                seed=seed,
                epoch=epochs[place],
                choice=dict(choices[place]),
                file=name,
                bytes=len(data),
                blake2b=digest(data) if name in files else "",
            )
        )
    notes = {
        f"generator {config.generator.name} has nothing to keep": generator is None,
        f"finetuner {config.finetuner.name} has nothing to keep: its logits are given by the "
        f"backbone and the names of the classes": not any(finetuners),
        f"seeds {', '.join(large)}: larger than {MOST_TENSORS} bytes, not kept": bool(large),
    }
    said = Said(
        format=FORMAT,
        results_version=RESULTS_VERSION,
        settings=config,
        **origin,
        tasks=tuple(map(_said_task, tasks.values())),
        generator_task=0,
        generator_kept=generator is not None,
        models=tuple(
            SaidModel(
                target=final.exams[0].name.removeprefix("accuracy/"),
                task=list(tasks).index(id(final.task)),
            )
            for final in finals
        ),
        seeds=tuple(said_seeds),
        notes=tuple(note for note, holds in notes.items() if holds),
        versions={name: _version(name) for name in PACKAGES},
    )
    return {SAID: said.model_dump_json(indent=1).encode(), **files}


def learned_by(part: Generator | Finetuner | None) -> State | None:
    """What a part has learned, as copies on the CPU; None: it cannot be kept, or is not there."""
    learned = None if part is None else part.learned()
    return None if learned is None else capture(learned)


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
