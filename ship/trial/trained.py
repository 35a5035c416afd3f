"""What a trial has trained, as files: written as selection chose it, and read with care.

trained.json says what was trained, seed_N.safetensors holds it: text features of each task's
classes, and the tensors of what was trained, each with a leading dimension of one replica:
tasks.T.text_features, generator.NAME, models.M.NAME. Files may be somebody else's: what is read is
bounded, its errors are typed, and nothing in them is code.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import safetensors.torch
import torch
from pydantic import Field, ValidationError, field_validator
from safetensors import SafetensorError
from torch import Tensor

from ship.checksum import add_checksum, check_content, digest
from ship.clip import FrozenCLIP
from ship.plugins import identities, installed_version
from ship.protocols import Protocol
from ship.settings import Settings
from ship.state import State, copied, prefixed
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.trial_config import RESULTS_VERSION, TrialConfig
from ship.whole_file import read_whole

SAID: Final = "trained.json"
# Bytes of a seed's file: the driver of a study holds it in memory.
MOST_TENSORS: Final = 40 * 2**20
MOST_SAID: Final = 4 * 2**20
PACKAGES: Final = ("ship-sweep", "torch", "open_clip_torch", "safetensors")
_FLOATS: Final = (torch.float32, torch.float64)

Name = Annotated[str, Field(max_length=1000)]
Names = Annotated[tuple[Name, ...], Field(max_length=100_000)]
Place = Annotated[int, Field(ge=0)]
Some = Field(min_length=1, max_length=1000)


class SaidTask(Settings):
    """The classes of a task by name, in the order of logits: base (seen), then new (unseen)."""

    base: Annotated[Names, Field(min_length=1)]
    new: Names

    @property
    def class_names(self) -> tuple[str, ...]:
        """All of them."""
        return self.base + self.new


class SaidModel(Settings):
    """A fine-tuner.

    target: cross_dataset: the dataset that it is for; "" elsewhere.
    task: its place among the tasks.
    """

    target: Name
    task: Place


class SaidSeed(Settings):
    """What a seed was tested at, and its file.

    epoch: the fine-tuner's (selection reference: the generator's).
    choice: what selection chose for inference, such as alpha and beta; {}: there is no choice.
    blake2b: of the file, 32 hex digits; "": there is no file, as it would be too large.
    """

    seed: Annotated[int, Field(ge=0)]
    epoch: int
    choice: dict[Name, float]
    file: Name
    bytes: Annotated[int, Field(ge=0)]
    blake2b: Name

    @field_validator("file")
    @classmethod
    def _beside(cls, value: str) -> str:
        if not value.endswith(".safetensors") or not set(value).isdisjoint("/\\\0"):
            raise ValueError("must be the name of a .safetensors file in the same folder")
        return value


class Said(Settings):
    """What trained.json says of a setting under its seeds.

    tasks: what was trained on; generator_task: the generator's place among them.
    generator_kept: whether the files have a generator.
    models: the fine-tuners that were tested.
    notes: for readers, what is not kept and why.
    versions: of the packages that wrote it. plugins: of what is none of theirs, by what it is.
    """

    format: Literal[2]
    results_version: int
    settings: TrialConfig
    backbone_fingerprint: Name
    dataset_fingerprint: Name
    template: Name
    tasks: Annotated[tuple[SaidTask, ...], Some]
    generator_task: Place
    generator_kept: bool
    models: Annotated[tuple[SaidModel, ...], Some]
    seeds: Annotated[tuple[SaidSeed, ...], Some]
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    plugins: dict[str, str] = Field(default_factory=dict)

    @field_validator("template")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if value.count("{}") != 1:
            raise ValueError("must have one {} for the name of a class")
        return value


def trained_files(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    protocol: Protocol,
    generator: State | None,
    finetuners: Sequence[State],
    chosen: Sequence[tuple[int, Mapping[str, float]]],
) -> dict[str, bytes]:
    """The files by name: trained.json, and a safetensors file for each seed.

    A seed whose file would be larger than MOST_TENSORS has none, and trained.json says so.

    Args:
        config: the setting.
        seeds: of each replica.
        features: of config.dataset.
        clip: the backbone.
        protocol: in whose finals it was tested.
        generator: what it has learned, (replica, ...) each; None: nothing is kept of it.
        finetuners: what that of each final has learned, (replica, ...) each.
        chosen: the epoch and the inference choice that each replica was tested at.
    """
    learned = prefixed("generator", generator or {})
    files: dict[str, bytes] = {}
    said_models: list[SaidModel] = []
    said_seeds: list[SaidSeed] = []
    own = [final[0].task for final in protocol.finals]
    # each task once, the generator's first; of its classes the first ones are seen
    tasks = {id(task): task for task in (protocol.generator_task or own[0], *own)}
    all_texts = enumerate(copied(task.text_features) for task in tasks.values())
    texts = {f"tasks.{place}.text_features": text for place, text in all_texts}
    for final, state in zip(protocol.finals, finetuners, strict=True):
        learned |= prefixed(f"models.{len(said_models)}", state)
        target = final[0].name.removeprefix("accuracy/")
        said_models.append(SaidModel(target=target, task=[*tasks].index(id(final[0].task))))
    for place, (seed, (epoch, choice)) in enumerate(zip(seeds, chosen, strict=True)):
        rows = {name: value[place : place + 1].clone() for name, value in learned.items()}
        file = f"seed_{seed}.safetensors"
        data = safetensors.torch.save({**rows, **texts})
        check = ""
        if len(data) <= MOST_TENSORS:
            files[file] = data
            check = digest(data)
        one = SaidSeed(
            seed=seed, epoch=epoch, choice=dict(choice), file=file, bytes=len(data), blake2b=check
        )
        said_seeds.append(one)
    said = Said(
        format=2,
        results_version=RESULTS_VERSION,
        settings=config,
        backbone_fingerprint=clip.fingerprint,
        dataset_fingerprint=features.dataset_fingerprint,
        template=features.template,
        tasks=tuple(map(_said_task, tasks.values())),
        generator_task=0,
        generator_kept=generator is not None,
        models=tuple(said_models),
        seeds=tuple(said_seeds),
        notes=tuple(_notes(config, generator, finetuners, said_seeds)),
        versions={name: installed_version(name) for name in PACKAGES},
        plugins=identities(config.generator.name, config.finetuner.name),
    )
    return {SAID: add_checksum(said.model_dump(mode="json")), **files}


def _said_task(task: Task) -> SaidTask:
    seen = int(task.seen[0].sum())
    return SaidTask(base=task.class_names[:seen], new=task.class_names[seen:])


def _notes(
    config: TrialConfig,
    generator: State | None,
    finetuners: Sequence[State],
    seeds: Sequence[SaidSeed],
) -> Iterator[str]:
    """What is not kept, and why."""
    if generator is None:
        yield f"generator {config.generator.name} has nothing to keep"
    if not any(finetuners):
        given = "its logits are given by the backbone and the names of the classes"
        yield f"finetuner {config.finetuner.name} has nothing to keep: {given}"
    if large := ", ".join(str(one.seed) for one in seeds if not one.blake2b):
        yield f"seeds {large}: larger than {MOST_TENSORS} bytes, not kept"


class TrainedError(ValueError):
    """What was kept of a trial cannot be used: one line with the file, the fault and a way out."""


def refusal(path: Path, fault: str, way_out: str = "fetch it again") -> TrainedError:
    """The error of a file.

    Args:
        path: of the file.
        fault: reads on from it.
        way_out: what would do.
    """
    return TrainedError(f"{path}: {fault}; {way_out}")


class KeptSeed(NamedTuple):
    """A seed's files as they were read.

    path: of the tensors.
    seed: what was said of it.
    tensors: by name, on the CPU, finite.
    """

    path: Path
    said: Said
    seed: SaidSeed
    tensors: Mapping[str, Tensor]


def read_kept(place: Path, seed: int | None) -> KeptSeed:
    """Read trained.json of a folder, and a seed's file beside it.

    Args:
        place: the folder, or the path of one of these files.
        seed: None: that of the file; of a folder, the first that trained.json names.

    Raises:
        TrainedError: there are no such files, or they are damaged.
    """
    names_seed = place.suffix == ".safetensors"
    folder = place.parent if names_seed or place.name == SAID else place
    said = _said(folder / SAID)
    field, wanted = ("file", place.name) if names_seed else ("seed", seed)
    there = {getattr(one, field): one for one in reversed(said.seeds)}
    of = said.seeds[0] if wanted is None else there.get(wanted)
    if of is None:
        choices = ", ".join(str(getattr(one, field)) for one in said.seeds[:10])
        raise refusal(folder / SAID, f"has no {field} {wanted}", f"choices: {choices}")
    if names_seed and seed not in (None, of.seed):
        raise refusal(place, f"is of seed {of.seed}, not {seed}", "name the folder")
    path = folder / of.file
    if not of.blake2b:
        fault = f"was not kept, as it has {of.bytes} bytes, of {MOST_TENSORS} at most"
        raise refusal(path, fault, "a smaller setting has files")
    return KeptSeed(path, said, of, _read_tensors(path, of.blake2b))


def _said(path: Path) -> Said:
    file = _content(path, MOST_SAID)
    try:
        content = check_content(file)
    except ValueError as error:
        raise refusal(path, str(error), "fetch it again, or train again") from None
    try:
        said = Said.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        way_out = "it must be as ship-sweep wrote it: fetch it again"
        told = f"{where}: {first['msg']}"
        if first["type"] == "union_tag_invalid":  # rather a plugin's than damaged
            told = f"{where} is {first['ctx']['tag'][:50]!r}, which nothing here is called"
            way_out = "if a plugin defines it, add --plugin FILE or MODULE"
        raise refusal(path, told, way_out) from None
    if said.results_version != RESULTS_VERSION:
        wrote = said.versions.get("ship-sweep", "")[:50] or "of its time"
        fault = f"is of results version {said.results_version}, this is {RESULTS_VERSION}, and its"
        raise refusal(path, f"{fault} numbers would be others", f"load it with ship-sweep {wrote}")
    for name, now in identities(said.settings.generator.name, said.settings.finetuner.name).items():
        if (then := said.plugins.get(name, now)) != now:
            fault = f"was trained with {name} of {then[:100]!r}, this one is {now!r}, and its"
            raise refusal(path, f"{fault} answers would be others", "give that one, or train anew")
    if max(said.generator_task, *(model.task for model in said.models)) >= len(said.tasks):
        raise refusal(path, "names a task that it does not have")
    return said


def _read_tensors(path: Path, wanted: str) -> dict[str, Tensor]:
    data = _content(path, MOST_TENSORS)
    if digest(data) != wanted:
        fault = f"is not the file that {SAID} is about, or is damaged"
        raise refusal(path, fault, "fetch both again")
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise refusal(path, f"is no safetensors file: {str(error)[:200]}") from error
    for name, value in tensors.items():
        sound = value.dtype in _FLOATS and bool(value.isfinite().all())
        if not sound and value.dtype != torch.int64:
            fault = f"{name[:100]!r} is not of finite numbers"
            raise refusal(path, fault, "fetch it again, or train anew")
    return tensors


def _content(path: Path, most: int) -> bytes:
    try:
        return read_whole(path, most)
    except ValueError as error:
        way_out = "name the folder `trained` of a run whose study has save: true"
        raise TrainedError(f"{error}; {way_out}") from error
