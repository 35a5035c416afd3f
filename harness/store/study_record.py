"""Read the description of a study from the tags of its own MLflow run."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from harness.store.errors import StoreError
from harness.store.run_update import split_tag
from harness.store.schema import COMPLETE, Tag, join_tag

Content = TypeVar("Content")
MAX_SEEDS = 1_000_000  # per study; tags are untrusted input

Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seeds = tuple[Seed, ...]


@dataclass(frozen=True)
class FactorRecord:
    """A factor of a study.

    Attributes:
        key: Dotted name of the key that the factor varies.
        levels: Its levels. None if values are drawn from a range.
        log: Whether the range is sampled on a logarithmic scale.
        baseline: Level that the others are compared with. None if there is none.
    """

    key: str
    levels: tuple[Any, ...] | None = None
    log: bool = False
    baseline: Any = None


@dataclass(frozen=True)
class ConfigurationRecord:
    """A configuration that a study plans to run, or a control.

    Attributes:
        key: Hash of everything that determines its results, except the seed.
        assignment: Levels of the factors by dotted name.
        control: Name of the control. "" for a configuration of the study's space.
        parts: Dataset -> key of the configuration on that dataset. Only reports set this, for an
            average over datasets. {} in the store.
    """

    key: Annotated[str, Field(alias="config_key")]
    assignment: dict[str, Any]
    control: str
    parts: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the configuration as JSON: an entry of the list in Tag.PLANNED."""
        entry = {"config_key": self.key, "assignment": self.assignment, "control": self.control}
        return json.dumps(entry)


@dataclass(frozen=True)
class _Content:
    """Validated keys of a study's YAML that `StudyRecord` reads."""

    seeds: Annotated[int, Field(ge=0, le=MAX_SEEDS)] | Seeds | None = 0  # a number, or a list
    n_trials: int | None = 0  # a number of configurations
    smallest_effect: Annotated[float, Field(gt=0, le=100)] = 1.0
    description: str | None = ""


@dataclass(frozen=True)
class StudyRecord:
    """A study as its own run describes it.

    Attributes:
        factors: Factors in the order of the YAML.
        configurations: All planned configurations, including controls. Two may have the same key:
            a control may equal a configuration of the space, and a sampler may repeat a proposal.
        seeds: Seeds of each configuration. () if the tags lack them.
        n_trials: Number of configurations to try (the YAML's `n_trials`). 0 if it is not limited.
        objective: Selection metric that the study maximizes. "" if the tags lack it.
        sampler: Name of the sampler.
        smallest_effect: Smallest difference of interest, in percentage points.
        description: Description in the YAML.
        content: Content of the YAML, including defaults. {} if the tags lack it.
        finished: Whether the study was complete after its last run.
        versions: Package -> version at its last run, including ship-sweep itself.
    """

    factors: tuple[FactorRecord, ...] = ()
    configurations: tuple[ConfigurationRecord, ...] = ()
    seeds: tuple[int, ...] = ()
    n_trials: int = 0
    objective: str = ""
    sampler: str = "grid"
    smallest_effect: float = 1.0
    description: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "StudyRecord":
        """Read a record from the tags of a study's own run. Missing tags give default values.

        Raises:
            StoreError: A tag is invalid.
        """
        content = _parse_tag(tags, Tag.STUDY, _Content, "{}")
        packages = _parse_tag(tags, Tag.PACKAGES, dict[str, Any], "{}")
        versions = {**packages, "ship-sweep": tags.get(Tag.CODE_VERSION, "")}
        seeds = content.seeds or ()
        return cls(
            factors=_parse_tag(tags, Tag.FACTORS, tuple[FactorRecord, ...], "[]"),
            configurations=_parse_tag(tags, Tag.PLANNED, tuple[ConfigurationRecord, ...], "[]"),
            seeds=tuple(range(seeds)) if isinstance(seeds, int) else seeds,
            n_trials=content.n_trials or 0,
            objective=tags.get(Tag.OBJECTIVE, ""),
            sampler=tags.get(Tag.SAMPLER, "grid"),
            smallest_effect=content.smallest_effect,
            description=content.description or "",
            content=_parse_tag(tags, Tag.STUDY, dict[str, Any], "{}"),
            finished=tags.get(Tag.STATE) == COMPLETE,
            versions={name: str(version) for name, version in versions.items() if version},
        )


def make_planned_tags(entries: Iterable[str]) -> dict[str, str]:
    """Return the tags that list a study's planned configurations.

    Args:
        entries: JSON entry of each configuration, see `ConfigurationRecord.to_json`.
    """
    return split_tag(Tag.PLANNED, f"[{', '.join(entries)}]")


def _parse_tag(tags: Mapping[str, str], tag: str, kind: type[Content], default: str) -> Content:
    """Return the validated content of a JSON tag, which may be continued in TAG.1 and so on.

    Args:
        tags: Tags of the study's own run.
        tag: Name of the tag.
        kind: Type of the content.
        default: JSON to use if the tag is missing.

    Raises:
        StoreError: The tag is not JSON of that type.
    """
    try:
        return TypeAdapter(kind).validate_json(join_tag(tags, tag, default), strict=True)
    except ValidationError as error:
        first_error = error.errors()[0]
        # pydantic adds the tried type of a union, such as "constrained-int", to the location
        location = [part for part in first_error["loc"] if "-" not in str(part)]
        field_path = ".".join(map(str, location))
        fault = f"{field_path}: {first_error['msg']}" if field_path else first_error["msg"]
        raise StoreError(f"invalid MLflow tag {tag}: {fault}") from error
