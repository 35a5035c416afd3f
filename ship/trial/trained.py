"""Write and read the files of a trial's trained models.

trained.json is the manifest. seed_N.safetensors has the tensors of seed N:

- tasks.T.text_features: text features of the classes of task T,
- generator.NAME: learned tensors of the generator, with a leading seed dimension of size 1,
- models.M.NAME: learned tensors of tested model M (a fine-tuner), with the same leading dimension.

Files are untrusted input: their size is limited, errors are `TrainedError`, and nothing in them is
executed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from safetensors import SafetensorError
from torch import Tensor

from ship.checksum import add_checksum, compute_checksum, strip_checksum
from ship.clip import FrozenCLIP
from ship.plugins import find_plugin_identities, get_installed_version
from ship.protocols import Protocol
from ship.settings import Settings
from ship.state import State, add_prefix, copy_to_cpu
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.trial_config import RESULTS_VERSION, TrialConfig
from ship.whole_file import read_whole

MANIFEST: Final = "trained.json"
# Maximum size of a seed's file. The driver of a study holds whole files in memory.
MAX_SEED_FILE_BYTES: Final = 40 * 2**20
MAX_MANIFEST_BYTES: Final = 4 * 2**20
PACKAGES: Final = ("ship-sweep", "torch", "open_clip_torch", "safetensors")
FORMAT: Final = 2
# Advice for a file that is neither damaged nor usable, so that copying it again would not help.
ADVICE: Final = "load it with the ship-sweep release that wrote it, or train again"
_FLOATS: Final = (torch.float32, torch.float64)

ShortText = Annotated[str, Field(max_length=1000)]
Names = Annotated[tuple[ShortText, ...], Field(max_length=100_000)]
Index = Annotated[int, Field(ge=0)]
# Bounds on the numbers of tasks, models and seeds. A study may have up to 1000 seeds
# (harness.config.MAX_SEEDS).
OneToThousand = Field(min_length=1, max_length=1000)


class TaskEntry(Settings):
    """The classes of a task, in the order of the logits.

    Attributes:
        base: Names of the seen classes, which come first.
        new: Names of the unseen classes.
    """

    base: Annotated[Names, Field(min_length=1)]
    new: Names

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes."""
        return self.base + self.new


class ModelEntry(Settings):
    """A tested model, i.e. a trained fine-tuner.

    Attributes:
        target: Target dataset under cross_dataset, "" under other protocols.
        task: Index of the model's task in TrainedManifest.tasks.
    """

    target: ShortText
    task: Index


class SeedEntry(Settings):
    """The file of a seed, with the epoch and the inference options that were tested.

    Attributes:
        seed: The seed.
        epoch: Tested epoch of the fine-tuner, or of the generator under selection "authors".
        choice: Selected inference options, such as alpha and beta. Empty if there are none.
        file: Name of the seed's file in the folder of trained.json.
        bytes: Size of the file in bytes. If the file was too large to save, the size that it would
            have had.
        blake2b: Checksum of the file, 32 hex digits. "" if the file was too large to save.
    """

    seed: Annotated[int, Field(ge=0)]
    epoch: int
    choice: dict[ShortText, float]
    file: ShortText
    bytes: Annotated[int, Field(ge=0)]
    blake2b: ShortText

    @field_validator("file")
    @classmethod
    def _require_file_name(cls, value: str) -> str:
        if not value.endswith(".safetensors") or not set(value).isdisjoint("/\\\0"):
            raise ValueError("must be the name of a .safetensors file in the same folder")
        return value


class TrainedManifest(Settings):
    """The content of trained.json: the models of one configuration under its seeds.

    Attributes:
        format: Version of the file format, FORMAT.
        results_version: RESULTS_VERSION of the code that trained the models.
        settings: Configuration of the trial.
        backbone_fingerprint: Fingerprint of the backbone's weights.
        dataset_fingerprint: Fingerprint of the dataset.
        template: Prompt template of the dataset, with one {} for a class name.
        tasks: Classes of each task.
        generator_task: Index of the generator's task in `tasks`. This code always writes 0.
        generator_kept: Whether the files contain the generator's state.
        models: Tested models: one per target under cross_dataset, otherwise a single one.
        seeds: Entry of each seed.
        notes: One line per part that was not saved, with the reason.
        versions: Installed versions of PACKAGES when the files were written.
        plugins: Identities of the plugins that the configuration uses, by kind and name of the
            method, e.g. "finetuner ridge".
    """

    format: Literal[2]  # FORMAT
    results_version: int
    settings: TrialConfig
    backbone_fingerprint: ShortText
    dataset_fingerprint: ShortText
    template: ShortText
    tasks: Annotated[tuple[TaskEntry, ...], OneToThousand]
    generator_task: Index
    generator_kept: bool
    models: Annotated[tuple[ModelEntry, ...], OneToThousand]
    seeds: Annotated[tuple[SeedEntry, ...], OneToThousand]
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    plugins: dict[str, str] = Field(default_factory=dict)

    @field_validator("template")
    @classmethod
    def _require_placeholder(cls, value: str) -> str:
        if value.count("{}") != 1:
            raise ValueError("must have one {} for a class name")
        return value


def serialize_trained(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    protocol: Protocol,
    generator: State | None,
    finetuners: Sequence[State],
    chosen: Sequence[tuple[int, Mapping[str, float]]],
) -> dict[str, bytes]:
    """Return the contents of the files by name: trained.json, and a safetensors file for each seed.

    A seed's file is left out if it is larger than MAX_SEED_FILE_BYTES. The seed's entry in
    trained.json then has the checksum "".

    Args:
        config: Configuration of the trial.
        seeds: Seeds that have not failed.
        features: Features of config.dataset.
        clip: Backbone.
        protocol: Protocol of the trial.
        generator: Learned tensors of the generator by name, each of shape (seed, ...). None if the
            generator has no state to save.
        finetuners: Learned tensors of each tested fine-tuner by name, each of shape (seed, ...).
        chosen: Epoch and inference choice with which each seed was tested.
    """
    learned = add_prefix("generator", generator or {})
    files: dict[str, bytes] = {}
    models: list[ModelEntry] = []
    entries: list[SeedEntry] = []
    model_tasks = [test_sets[0].task for test_sets in protocol.tested_models]
    generator_task = protocol.generator_task or model_tasks[0]
    # each distinct task once, the generator's first
    tasks = {id(task): task for task in (generator_task, *model_tasks)}
    text_features = {
        f"tasks.{i}.text_features": copy_to_cpu(task.text_features)
        for i, task in enumerate(tasks.values())
    }
    for test_sets, state in zip(protocol.tested_models, finetuners, strict=True):
        learned |= add_prefix(f"models.{len(models)}", state)
        # under cross_dataset the first evaluation set is named accuracy/TARGET
        target = test_sets[0].name.removeprefix("accuracy/")
        models.append(ModelEntry(target=target, task=[*tasks].index(id(test_sets[0].task))))
    for i, (seed, (epoch, choice)) in enumerate(zip(seeds, chosen, strict=True)):
        seed_tensors = {name: value[i : i + 1].clone() for name, value in learned.items()}
        file_name = f"seed_{seed}.safetensors"
        data = safetensors.torch.save({**seed_tensors, **text_features})
        checksum = ""
        if len(data) <= MAX_SEED_FILE_BYTES:
            files[file_name] = data
            checksum = compute_checksum(data)
        entry = SeedEntry(
            seed=seed,
            epoch=epoch,
            choice=dict(choice),
            file=file_name,
            bytes=len(data),
            blake2b=checksum,
        )
        entries.append(entry)
    manifest = TrainedManifest(
        format=FORMAT,
        results_version=RESULTS_VERSION,
        settings=config,
        backbone_fingerprint=clip.fingerprint,
        dataset_fingerprint=features.dataset_fingerprint,
        template=features.template,
        tasks=tuple(map(_make_task_entry, tasks.values())),
        generator_task=0,
        generator_kept=generator is not None,
        models=tuple(models),
        seeds=tuple(entries),
        notes=tuple(_make_notes(config, generator, finetuners, entries)),
        versions={name: get_installed_version(name) for name in PACKAGES},
        plugins=find_plugin_identities(config.generator.name, config.finetuner.name),
    )
    return {MANIFEST: add_checksum(manifest.model_dump(mode="json")), **files}


def _make_task_entry(task: Task) -> TaskEntry:
    """Return the entry of a task, whose first classes are the seen ones."""
    n_seen = int(task.seen[0].sum())
    return TaskEntry(base=task.class_names[:n_seen], new=task.class_names[n_seen:])


def _make_notes(
    config: TrialConfig,
    generator: State | None,
    finetuners: Sequence[State],
    seeds: Sequence[SeedEntry],
) -> Iterator[str]:
    """Yield one line per part that is not saved, with the reason."""
    if generator is None:
        yield f"generator {config.generator.name} has no state to save"
    if not any(finetuners):
        reason = "its logits depend only on the backbone and the class names"
        yield f"finetuner {config.finetuner.name} has no state to save: {reason}"
    if large_seeds := [str(entry.seed) for entry in seeds if not entry.blake2b]:
        subject = "files of seeds" if len(large_seeds) > 1 else "file of seed"
        maximum = f"{MAX_SEED_FILE_BYTES // 2**20} MiB"
        yield f"{subject} {', '.join(large_seeds)} not saved: larger than the maximum of {maximum}"


class TrainedError(ValueError):
    """A trained model cannot be loaded. The message is one line: file, fault and advice."""


def make_trained_error(path: Path, fault: str, advice: str = ADVICE) -> TrainedError:
    """Return a TrainedError with the message "PATH: FAULT; ADVICE".

    Args:
        path: Path of the file.
        fault: What is wrong: a clause, or a predicate whose subject is the file ("has no seed 3").
        advice: Advice to the user.
    """
    return TrainedError(f"{path}: {fault}; {advice}")


class SavedSeed(NamedTuple):
    """The content of a seed's files.

    Attributes:
        path: Path of the tensor file.
        manifest: Content of trained.json.
        entry: Entry of the seed in trained.json.
        tensors: Tensors by name, on the CPU. Floating-point values are finite.
    """

    path: Path
    manifest: TrainedManifest
    entry: SeedEntry
    tensors: Mapping[str, Tensor]


def read_saved(path: Path, seed: int | None) -> SavedSeed:
    """Read trained.json of a folder, and the file of a seed.

    Args:
        path: The folder, its trained.json, or the file of a seed.
        seed: Seed to read. None reads the seed of the file, or the folder's first seed.

    Raises:
        TrainedError: A file is missing, damaged, or of another version of ship-sweep or a plugin;
            or the folder or file does not have the seed.
    """
    is_seed_file = path.suffix == ".safetensors"
    folder = path.parent if is_seed_file or path.name == MANIFEST else path
    manifest = _read_manifest(folder / MANIFEST)
    attribute, wanted = ("file", path.name) if is_seed_file else ("seed", seed)
    # reversed: a damaged manifest may list a seed twice, and its first entry is used
    entries = {getattr(entry, attribute): entry for entry in reversed(manifest.seeds)}
    entry = manifest.seeds[0] if wanted is None else entries.get(wanted)
    if entry is None:
        choices = ", ".join(str(getattr(entry, attribute)) for entry in manifest.seeds[:10])
        fault = f"has no {attribute} {wanted}"
        raise make_trained_error(folder / MANIFEST, fault, f"choices: {choices}")
    if is_seed_file and seed not in (None, entry.seed):
        fault = f"contains seed {entry.seed}, but seed {seed} was requested"
        raise make_trained_error(path, fault, "pass the folder instead")
    seed_file = folder / entry.file
    if not entry.blake2b:
        fault = (
            f"was not saved: its {entry.bytes} bytes exceed the maximum of {MAX_SEED_FILE_BYTES}"
        )
        raise make_trained_error(seed_file, fault, "use a smaller configuration")
    return SavedSeed(seed_file, manifest, entry, _read_tensors(seed_file, entry.blake2b))


def _read_manifest(path: Path) -> TrainedManifest:
    """Read and check trained.json.

    Raises:
        TrainedError: See read_saved.
    """
    data = _read_content(path, MAX_MANIFEST_BYTES)
    try:
        content = strip_checksum(data)
    except ValueError as error:
        raise make_trained_error(path, str(error), "fetch it again, or train again") from None
    advice = _check_version(path, content)
    try:
        manifest = TrainedManifest.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, detail["loc"]))[:200]
        prefix = f"{key if key.isprintable() else repr(key)}: " if key else ""
        fault = f"{prefix}{detail['msg']}"
        if detail["type"] == "union_tag_invalid":  # probably a plugin's name
            fault = f"{prefix}unknown name {detail['ctx']['tag'][:50]!r}"
            advice = "if a plugin defines it, add --plugin FILE or MODULE"
        raise make_trained_error(path, fault, advice) from None
    settings = manifest.settings
    identities = find_plugin_identities(settings.generator.name, settings.finetuner.name)
    for name, identity in identities.items():
        # a file without the plugin's identity is accepted: there is nothing to compare
        trained_identity = manifest.plugins.get(name, identity)
        if trained_identity != identity:
            trained_plugin = f"{name} of plugin {trained_identity[:100]!r}"
            fault = f"was trained with {trained_plugin}, but the loaded plugin is {identity!r}"
            raise make_trained_error(path, fault, "load the same plugin, or train again")
    last_task = max(manifest.generator_task, *(model.task for model in manifest.models))
    if last_task >= len(manifest.tasks):
        raise make_trained_error(path, "refers to a task that it does not have", advice)
    return manifest


class _Version(BaseModel):
    """The keys of trained.json that identify the code that wrote it. Other keys are ignored."""

    model_config = ConfigDict(strict=True)

    format: int
    results_version: int
    versions: dict[str, str] = Field(default_factory=dict)


def _check_version(path: Path, content: bytes) -> str:
    """Raise an error if trained.json has another format or results version than this code.

    The versions are checked before all other keys, because other versions may have other keys.

    Args:
        path: Path of trained.json.
        content: Its content, whose checksum has been verified.

    Returns:
        Advice to show if any other key is invalid. It names the release that wrote the file, if the
        file contains a release other than the installed one.

    Raises:
        TrainedError: The format or the results version differs.
    """
    advice = ADVICE
    try:
        version = _Version.model_validate_json(content)
    except ValidationError:  # the caller validates all keys, and reports the fault
        return advice
    release = version.versions.get("ship-sweep", "")
    is_release = re.fullmatch(r"[\w.+-]{1,50}", release) is not None
    if is_release and release != get_installed_version("ship-sweep"):
        advice = f"load it with ship-sweep {release}, or train again"
    for name, actual, expected in (
        ("format", version.format, FORMAT),
        ("results version", version.results_version, RESULTS_VERSION),
    ):
        if actual != expected:
            fault = f"has {name} {actual}, but this ship-sweep reads only {name} {expected}"
            raise make_trained_error(path, fault, advice)
    return advice


def _read_tensors(path: Path, checksum: str) -> dict[str, Tensor]:
    """Read and check the file of a seed.

    Args:
        path: Path of the file.
        checksum: Checksum of the file according to trained.json.

    Raises:
        TrainedError: The file is missing or damaged, or does not belong to trained.json.
    """
    data = _read_content(path, MAX_SEED_FILE_BYTES)
    if compute_checksum(data) != checksum:
        fault = f"does not match {MANIFEST}, or is damaged"
        raise make_trained_error(path, fault, "fetch both again")
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise make_trained_error(path, f"is not a safetensors file: {str(error)[:200]}") from error
    for name, value in tensors.items():
        is_finite_float = value.dtype in _FLOATS and bool(value.isfinite().all())
        if not is_finite_float and value.dtype != torch.int64:
            fault = f"{name[:100]!r} has non-finite values, or is not float32, float64 or int64"
            raise make_trained_error(path, fault, "fetch it again, or train again")
    return tensors


def _read_content(path: Path, max_bytes: int) -> bytes:
    """Read a file.

    Raises:
        TrainedError: The file is missing or unreadable, or larger than `max_bytes`.
    """
    try:
        return read_whole(path, max_bytes)
    except ValueError as error:
        advice = "use an unchanged folder `trained` of a run whose study has save_models: true"
        raise TrainedError(f"{error}; {advice}") from error
