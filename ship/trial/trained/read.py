"""Reads the files of a trained setting, which may be somebody else's: bounded, typed, no code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from ship.architectures import BackboneError, architectures
from ship.clip import FrozenCLIP
from ship.trial.trained.form import MOST_SAID, MOST_TENSORS, SAID, Said, SaidSeed, digest
from ship.trial_config import RESULTS_VERSION

_FLOATS = (torch.float32, torch.float64)


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


@dataclass(frozen=True)
class Kept:
    """A seed's files as they were read.

    path: of the tensors.
    seed: what was said of it.
    tensors: by name, on the CPU, finite.
    """

    path: Path
    said: Said
    seed: SaidSeed
    tensors: Mapping[str, Tensor]


def read_kept(place: Path, seed: int | None) -> Kept:
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
    return Kept(path, said, of, _tensors(path, of.blake2b))


def backbone_of(kept: Kept, clip: FrozenCLIP | None, device: str) -> FrozenCLIP:
    """The backbone that something was trained with, once it is sure that it is the one.

    A name from a file is loaded only where it stands for published weights: a path in it could be
    that of an archive, which torch would run.

    Args:
        kept: what was trained with it.
        clip: the backbone; None: it is to be loaded.
        device: torch device of a backbone that is loaded.

    Raises:
        TrainedError: it cannot be loaded, or is another one.
    """
    name, precision = kept.said.settings.backbone, kept.said.settings.precision
    if clip is None:
        way_out = "load it yourself and give it as clip=FrozenCLIP.load(...)"
        architecture, _, tag = name.partition(":")
        known = {entry.name: (*entry.tags, "random") for entry in architectures()}
        if name != "pocket" and tag not in known.get(architecture, ()):
            raise refusal(
                kept.path, f"its backbone {name[:200]!r} has no published weights", way_out
            )
        try:
            clip = FrozenCLIP.load(name, device, precision)
        except BackboneError as error:
            raise refusal(kept.path, str(error), way_out) from error
    if clip.fingerprint != kept.said.backbone_fingerprint:
        raise refusal(
            kept.path,
            f"was trained with backbone {name[:200]!r} of fingerprint "
            f"{kept.said.backbone_fingerprint[:32]!r}, and this one is {clip.name!r} of "
            f"fingerprint {clip.fingerprint!r}",
            "load the weights that it was trained with",
        )
    if clip.precision != precision:
        fault = f"was trained in precision {precision}, and the backbone is loaded in "
        raise refusal(kept.path, fault + clip.precision, f"load it in {precision}")
    return clip


def _said(path: Path) -> Said:
    try:
        said = Said.model_validate_json(_content(path, MOST_SAID))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        way_out = "it must be as ship-sweep wrote it: fetch it again"
        raise refusal(path, f"{where}: {first['msg']}", way_out) from None
    if said.results_version != RESULTS_VERSION:
        wrote = said.versions.get("ship-sweep", "")[:50] or "of its time"
        raise refusal(
            path,
            f"is of results version {said.results_version}, this is {RESULTS_VERSION}, and its "
            f"numbers would be others",
            f"load it with ship-sweep {wrote}",
        )
    if max(said.generator_task, *(model.task for model in said.models)) >= len(said.tasks):
        raise refusal(path, "names a task that it does not have")
    return said


def _tensors(path: Path, wanted: str) -> dict[str, Tensor]:
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
        if not path.is_file():
            way_out = "name the folder `trained` of a run whose study has save: true"
            raise refusal(path, "there is no such file", way_out)
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise refusal(path, f"cannot be read: {error.strerror}", "see its rights") from error
    if len(data) > most:
        raise refusal(path, f"has more than {most} bytes, which none of ours has")
    return data
