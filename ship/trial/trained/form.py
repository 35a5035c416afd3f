"""The form of the files: trained.json says what was trained, seed_N.safetensors holds it.

A seed's file has text features of each task's classes, and the tensors of what was trained, each
with a leading dimension of one replica: tasks.T.text_features, generator.NAME, models.M.NAME.
"""

import hashlib
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from ship.settings import Settings
from ship.trial_config import TrialConfig

FORMAT: Final = 1
SAID: Final = "trained.json"
# Bytes. What waits for a store that is away is kept in rows of 64 MiB (harness.store.outbox).
MOST_TENSORS: Final = 40 * 2**20
MOST_SAID: Final = 4 * 2**20

Name = Annotated[str, Field(max_length=1000)]
Names = Annotated[tuple[Name, ...], Field(max_length=100_000)]
Place = Annotated[int, Field(ge=0)]


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
    versions: of the packages that wrote it.
    """

    format: Literal[1]
    results_version: int
    settings: TrialConfig
    backbone_fingerprint: Name
    dataset_fingerprint: Name
    template: Name
    tasks: Annotated[tuple[SaidTask, ...], Field(min_length=1, max_length=1000)]
    generator_task: Place
    generator_kept: bool
    models: Annotated[tuple[SaidModel, ...], Field(min_length=1, max_length=1000)]
    seeds: Annotated[tuple[SaidSeed, ...], Field(min_length=1, max_length=1000)]
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)

    @field_validator("template")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if value.count("{}") != 1:
            raise ValueError("must have one {} for the name of a class")
        return value


def digest(data: bytes) -> str:
    """Of a file's content, 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
