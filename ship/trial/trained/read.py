"""Reads the files of a trained setting, which may be somebody else's: bounded, typed, no code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from ship.trial.trained.form import MOST_SAID, MOST_TENSORS, SAID, Said, SaidSeed
from ship.trial.trained.keep import digest
from ship.trial_config import RESULTS_VERSION

_FLOATS = (torch.float32, torch.float64)


class TrainedError(ValueError):
    """What was kept of a trial cannot be used: one line with the file, the fault and a way out."""


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
    if not names_seed:
        of = said.seeds[0] if seed is None else _of(folder / SAID, said, "seed", seed)
    else:
        of = _of(folder / SAID, said, "file", place.name)
        if seed not in (None, of.seed):
            raise TrainedError(f"{place}: is of seed {of.seed}, not {seed}; name the folder")
    path = folder / of.file
    if not of.blake2b:
        raise TrainedError(
            f"{path}: was not kept, as it has {of.bytes} bytes, of {MOST_TENSORS} at most; a "
            f"smaller setting has files"
        )
    return Kept(path, said, of, _tensors(path, of.blake2b))


def _of(path: Path, said: Said, name: str, wanted: object) -> SaidSeed:
    """The seed with that value of a field."""
    for one in said.seeds:
        if getattr(one, name) == wanted:
            return one
    there = ", ".join(str(getattr(one, name)) for one in said.seeds[:10])
    raise TrainedError(f"{path}: has no {name} {wanted}; choices: {there}")


def _said(path: Path) -> Said:
    data = _content(path, MOST_SAID)
    try:
        said = Said.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise TrainedError(
            f"{path}: {where or 'it'}: {first['msg']}; it must be as ship-sweep wrote it: fetch it "
            f"again"
        ) from None
    if said.results_version != RESULTS_VERSION:
        wrote = said.versions.get("ship-sweep", "")[:50] or "of its time"
        raise TrainedError(
            f"{path}: is of results version {said.results_version}, this is {RESULTS_VERSION}, and "
            f"its numbers would be others; load it with ship-sweep {wrote}"
        )
    n = len(said.tasks)
    if said.generator_task >= n or any(model.task >= n for model in said.models):
        raise TrainedError(f"{path}: names a task that it does not have; fetch it again")
    return said


def _tensors(path: Path, wanted: str) -> dict[str, Tensor]:
    data = _content(path, MOST_TENSORS)
    if digest(data) != wanted:
        raise TrainedError(
            f"{path}: is not the file that {SAID} is about, or is damaged; fetch both again"
        )
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise TrainedError(
            f"{path}: is no safetensors file: {str(error)[:200]}; fetch it again"
        ) from error
    for name, value in tensors.items():
        sound = value.dtype in _FLOATS and bool(value.isfinite().all())
        if not sound and value.dtype != torch.int64:
            raise TrainedError(
                f"{path}: {name[:100]!r} is not of finite numbers; fetch it again, or train anew"
            )
    return tensors


def _content(path: Path, most: int) -> bytes:
    try:
        if not path.is_file():
            raise TrainedError(
                f"{path}: there is no such file; name the folder `trained` of a run whose study "
                f"has save: true"
            )
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise TrainedError(f"{path}: cannot be read: {error.strerror}; see its rights") from error
    if len(data) > most:
        raise TrainedError(
            f"{path}: has more than {most} bytes, which none of ours has; fetch it again"
        )
    return data
