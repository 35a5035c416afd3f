"""Write and read the files of a trial's trained models.

trained.json is the manifest. seed_N.safetensors has the tensors of seed N:

- tasks.T.text_features: text features of the classes of task T,
- generator.NAME: learned tensors of the generator, with a leading seed dimension of size 1,
- models.M.NAME: learned tensors of tested fine-tuner M, with the same leading dimension.

Files are untrusted input: their size is limited, errors are `TrainedError`, and nothing in them is
executed.
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
from ship.plugins import find_plugin_identities, get_installed_version
from ship.protocols import Protocol
from ship.settings import Settings
from ship.state import State, add_prefix, copy_to_cpu
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.trial_config import RESULTS_VERSION, TrialConfig
from ship.whole_file import read_whole

MANIFEST: Final = "trained.json"
# Maximum size of a seed's file, which the driver of a study holds in memory.
MAX_SEED_FILE_BYTES: Final = 40 * 2**20
MAX_MANIFEST_BYTES: Final = 4 * 2**20
PACKAGES: Final = ("ship-sweep", "torch", "open_clip_torch", "safetensors")
_FLOATS: Final = (torch.float32, torch.float64)

Name = Annotated[str, Field(max_length=1000)]
Names = Annotated[tuple[Name, ...], Field(max_length=100_000)]
Index = Annotated[int, Field(ge=0)]
NonEmpty = Field(min_length=1, max_length=1000)


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
    """A tested fine-tuner.

    Attributes:
        target: Target dataset under cross_dataset, "" under other protocols.
        task: Index of the fine-tuner's task in TrainedManifest.tasks.
    """

    target: Name
    task: Index


class SeedEntry(Settings):
    """The file of a seed, with the epoch and the inference options that were tested.

    Attributes:
        seed: The seed.
        epoch: Tested epoch of the fine-tuner, or of the generator under selection "authors".
        choice: Selected inference options, such as alpha and beta. Empty if there are none.
        file: Name of the seed's file in the folder of trained.json.
        bytes: Size of the file, whether or not it was saved.
        blake2b: Digest of the file, 32 hex digits. "" if it was not saved because of its size.
    """

    seed: Annotated[int, Field(ge=0)]
    epoch: int
    choice: dict[Name, float]
    file: Name
    bytes: Annotated[int, Field(ge=0)]
    blake2b: Name

    @field_validator("file")
    @classmethod
    def _require_file_name(cls, value: str) -> str:
        if not value.endswith(".safetensors") or not set(value).isdisjoint("/\\\0"):
            raise ValueError("must be the name of a .safetensors file in the same folder")
        return value


class TrainedManifest(Settings):
    """The content of trained.json: the models of one configuration under its seeds.

    Attributes:
        format: Version of the file format.
        results_version: RESULTS_VERSION of the code that trained the models.
        settings: Configuration of the trial.
        backbone_fingerprint: Fingerprint of the backbone's weights.
        dataset_fingerprint: Fingerprint of the dataset.
        template: Prompt template of the dataset, with one {} for a class name.
        tasks: Classes of each task.
        generator_task: Index of the generator's task.
        generator_kept: Whether the files contain the generator's state.
        models: Fine-tuners that were tested, one per target under cross_dataset.
        seeds: Entry of each seed.
        notes: One line per part that was not saved, with the reason.
        versions: Installed versions of PACKAGES when the files were written.
        plugins: Identities of the plugins that the configuration uses, by method name.
    """

    format: Literal[2]
    results_version: int
    settings: TrialConfig
    backbone_fingerprint: Name
    dataset_fingerprint: Name
    template: Name
    tasks: Annotated[tuple[TaskEntry, ...], NonEmpty]
    generator_task: Index
    generator_kept: bool
    models: Annotated[tuple[ModelEntry, ...], NonEmpty]
    seeds: Annotated[tuple[SeedEntry, ...], NonEmpty]
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    plugins: dict[str, str] = Field(default_factory=dict)

    @field_validator("template")
    @classmethod
    def _require_placeholder(cls, value: str) -> str:
        if value.count("{}") != 1:
            raise ValueError("must have one {} for a class name")
        return value


def make_trained_files(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    clip: FrozenCLIP,
    protocol: Protocol,
    generator: State | None,
    finetuners: Sequence[State],
    chosen: Sequence[tuple[int, Mapping[str, float]]],
) -> dict[str, bytes]:
    """Return the files by name: trained.json, and a safetensors file for each seed.

    A seed has no file if this would be larger than MAX_SEED_FILE_BYTES. Its entry in trained.json
    then has the digest "".

    Args:
        config: Configuration of the trial.
        seeds: Seeds that have not failed.
        features: Features of config.dataset.
        clip: Backbone.
        protocol: Protocol of the trial.
        generator: Learned state of the generator, (seed, ...) each. None saves no generator.
        finetuners: Learned state of each tested fine-tuner, (seed, ...) each.
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
    texts = {
        f"tasks.{i}.text_features": copy_to_cpu(task.text_features)
        for i, task in enumerate(tasks.values())
    }
    for test_sets, state in zip(protocol.tested_models, finetuners, strict=True):
        learned |= add_prefix(f"models.{len(models)}", state)
        # under cross_dataset the first evaluation set is named accuracy/TARGET
        target = test_sets[0].name.removeprefix("accuracy/")
        models.append(ModelEntry(target=target, task=[*tasks].index(id(test_sets[0].task))))
    for i, (seed, (epoch, choice)) in enumerate(zip(seeds, chosen, strict=True)):
        rows = {name: value[i : i + 1].clone() for name, value in learned.items()}
        file = f"seed_{seed}.safetensors"
        data = safetensors.torch.save({**rows, **texts})
        blake2b = ""
        if len(data) <= MAX_SEED_FILE_BYTES:
            files[file] = data
            blake2b = digest(data)
        entry = SeedEntry(
            seed=seed,
            epoch=epoch,
            choice=dict(choice),
            file=file,
            bytes=len(data),
            blake2b=blake2b,
        )
        entries.append(entry)
    manifest = TrainedManifest(
        format=2,
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
    if large_seeds := ", ".join(str(entry.seed) for entry in seeds if not entry.blake2b):
        yield f"seeds {large_seeds}: larger than {MAX_SEED_FILE_BYTES} bytes, not saved"


class TrainedError(ValueError):
    """A trained model cannot be loaded. The message is one line: file, fault and advice."""


def make_trained_error(path: Path, fault: str, advice: str = "fetch it again") -> TrainedError:
    """Return a TrainedError with the message "PATH: FAULT; ADVICE".

    Args:
        path: Path of the file.
        fault: Fault of the file, as a predicate ("has no seed 3").
        advice: Advice to the user.
    """
    return TrainedError(f"{path}: {fault}; {advice}")


class SavedSeed(NamedTuple):
    """The content of a seed's files.

    Attributes:
        path: Path of the tensor file.
        manifest: Content of trained.json.
        seed: Entry of the seed in trained.json.
        tensors: Tensors by name, on the CPU. Floating-point values are finite.
    """

    path: Path
    manifest: TrainedManifest
    seed: SeedEntry
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
    field, key = ("file", path.name) if is_seed_file else ("seed", seed)
    entries = {getattr(entry, field): entry for entry in reversed(manifest.seeds)}
    entry = manifest.seeds[0] if key is None else entries.get(key)
    if entry is None:
        choices = ", ".join(str(getattr(entry, field)) for entry in manifest.seeds[:10])
        raise make_trained_error(folder / MANIFEST, f"has no {field} {key}", f"choices: {choices}")
    if is_seed_file and seed not in (None, entry.seed):
        raise make_trained_error(path, f"has seed {entry.seed}, got seed {seed}", "pass the folder")
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
    file = _read_content(path, MAX_MANIFEST_BYTES)
    try:
        content = check_content(file)
    except ValueError as error:
        raise make_trained_error(path, str(error), "fetch it again, or train again") from None
    try:
        manifest = TrainedManifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"])) or "it"
        advice = "fetch it again"
        fault = f"{key}: {first['msg']}"
        if first["type"] == "union_tag_invalid":  # probably a plugin's name, not damage
            fault = f"{key}: unknown name {first['ctx']['tag'][:50]!r}"
            advice = "if a plugin defines it, add --plugin FILE or MODULE"
        raise make_trained_error(path, fault, advice) from None
    if manifest.results_version != RESULTS_VERSION:
        release = manifest.versions.get("ship-sweep", "")[:50] or "of that version"
        fault = (
            f"must have results version {RESULTS_VERSION}, that of this ship-sweep, "
            f"got {manifest.results_version}"
        )
        raise make_trained_error(path, fault, f"load it with ship-sweep {release}")
    settings = manifest.settings
    identities = find_plugin_identities(settings.generator.name, settings.finetuner.name)
    for name, identity in identities.items():
        trained_identity = manifest.plugins.get(name, identity)
        if trained_identity != identity:
            fault = f"was trained with {name} of {trained_identity[:100]!r}, got {identity!r}"
            raise make_trained_error(path, fault, "load the same plugin, or train again")
    last_task = max(manifest.generator_task, *(model.task for model in manifest.models))
    if last_task >= len(manifest.tasks):
        raise make_trained_error(path, "refers to a task that it does not have")
    return manifest


def _read_tensors(path: Path, checksum: str) -> dict[str, Tensor]:
    """Read and check the file of a seed.

    Args:
        path: Path of the file.
        checksum: Digest in trained.json.

    Raises:
        TrainedError: The file is missing or damaged, or does not belong to trained.json.
    """
    data = _read_content(path, MAX_SEED_FILE_BYTES)
    if digest(data) != checksum:
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
        advice = "use the folder `trained` of a run whose study has save_models: true"
        raise TrainedError(f"{error}; {advice}") from error
