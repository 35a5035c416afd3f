"""What a trial has trained, as files: trained.json, and the tensors of each seed."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

import safetensors.torch

from ship.clip import FrozenCLIP
from ship.finetuners import FusedFinetuner
from ship.generators import FeatureSource
from ship.protocols import Protocol
from ship.subsets import FeatureSet
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


def trained_files(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
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
        features: of config.dataset.
        clip: the backbone.
        protocol: in whose finals it was tested.
        generator: what it has learned (see learned_by), (replica, ...) each; None: there is none.
        finetuners: what that of each final has learned, (replica, ...) each.
        epochs: that each replica was tested at.
        choices: for inference, of each replica.
    """
    own = [final.task for final in protocol.finals]
    # each task once, the generator's first
    tasks = {id(task): task for task in (protocol.generator_task or own[0], *own)}
    place = {key: number for number, key in enumerate(tasks)}
    held = _tensors(len(seeds), list(tasks.values()), generator, finetuners)
    tensors = {f"seed_{seed}.safetensors": data for seed, data in zip(seeds, held, strict=True)}
    files = {name: data for name, data in tensors.items() if len(data) <= MOST_TENSORS}
    said = Said(
        format=FORMAT,
        results_version=RESULTS_VERSION,
        settings=config,
        backbone_fingerprint=clip.fingerprint,
        dataset_fingerprint=features.dataset_fingerprint,
        template=features.template,
        tasks=tuple(map(_said_task, tasks.values())),
        generator_task=0,
        generator_kept=generator is not None,
        models=tuple(
            SaidModel(
                target=final.exams[0].name.removeprefix("accuracy/"), task=place[id(final.task)]
            )
            for final in protocol.finals
        ),
        seeds=tuple(
            SaidSeed(
                seed=seed,
                epoch=epoch,
                choice=dict(choice),
                file=name,
                bytes=len(data),
                blake2b=digest(data) if name in files else "",
            )
            for seed, epoch, choice, (name, data) in zip(
                seeds, epochs, choices, tensors.items(), strict=True
            )
        ),
        versions={name: _version(name) for name in PACKAGES},
    )
    notes = _notes(said, any(finetuners))
    said = said.model_copy(update={"notes": notes})
    return {SAID: said.model_dump_json(indent=1).encode(), **files}


def _tensors(
    n_seeds: int, tasks: Sequence[Task], generator: State | None, finetuners: Sequence[State]
) -> Iterator[bytes]:
    """The file of each seed."""
    learned = prefixed("generator", generator or {})
    for number, state in enumerate(finetuners):
        learned |= prefixed(f"models.{number}", state)
    texts = {
        f"tasks.{number}.text_features": copied(task.text_features)
        for number, task in enumerate(tasks)
    }
    for place in range(n_seeds):
        rows = {name: value[place : place + 1].clone() for name, value in learned.items()}
        yield safetensors.torch.save({**rows, **texts})


def _notes(said: Said, finetuners_kept: bool) -> tuple[str, ...]:
    """What is not kept, and why."""
    notes = []
    if not said.generator_kept:
        notes.append(f"generator {said.settings.generator.name} has nothing to keep")
    if not finetuners_kept:
        notes.append(
            f"finetuner {said.settings.finetuner.name} has nothing to keep: its logits are given "
            f"by the backbone and the names of the classes"
        )
    if large := [str(one.seed) for one in said.seeds if not one.blake2b]:
        notes.append(f"seeds {', '.join(large)}: larger than {MOST_TENSORS} bytes, not kept")
    return tuple(notes)


def learned_by(part: FeatureSource | FusedFinetuner | None) -> State | None:
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
