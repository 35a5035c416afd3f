"""Read and write the tags of a study's own run.

This is the MLflow run that describes the study. It is the parent of the runs of its trials.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

from harness.store.errors import StoreError
from harness.store.run_update import split_tag
from harness.store.schema import COMPLETE, Tag, join_tag

T = TypeVar("T")

# Tags are untrusted input: a huge number of seeds would fill the memory. The limit is far above
# harness.config.MAX_SEEDS, so that studies remain readable if that is changed.
MAX_STORED_SEEDS = 1_000_000
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seeds = tuple[Seed, ...]


@dataclass(frozen=True)
class FactorRecord:
    """A factor of a study.

    Attributes:
        key: Dotted name of the key that the factor varies.
        levels: Levels of the factor. None if its values are drawn from a range.
        log: Whether the range is sampled on a logarithmic scale.
        baseline: Level that the other levels are compared with. None if the factor has no baseline.
    """

    key: str
    levels: tuple[Any, ...] | None = None
    log: bool = False
    baseline: Any = None


@dataclass(frozen=True)
class ConfigurationRecord:
    """A configuration that a study plans to run, or a control.

    Attributes:
        key: Hash of everything that determines its results, except the seed. In JSON, its name is
            "config_key".
        assignment: Levels of the factors by dotted name.
        control: Name of the control. "" for a configuration of the study's space.
        parts: Dataset -> key of the configuration on that dataset. Empty for stored configurations.
            Reports set it on records that represent an average over datasets.
    """

    key: Annotated[str, Field(alias="config_key")]
    assignment: dict[str, Any]
    control: str
    # Tags must not contain parts. Only _parse_tag checks max_length; the constructor does not.
    parts: Annotated[Mapping[str, str], Field(max_length=0)] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return an entry of the list in Tag.PLANNED."""
        entry = {"config_key": self.key, "assignment": self.assignment, "control": self.control}
        return json.dumps(entry)


def _explain_invalid_seeds(value: Any, validate: Callable[[Any], Any]) -> Any:
    """Validate seeds with one message, in place of pydantic's messages for each allowed type."""
    try:
        return validate(value)
    except ValidationError as error:
        raise PydanticCustomError(
            "seeds",
            "must be a number of seeds from 0 to {max_seeds}, or a list of integers >= 0",
            {"max_seeds": MAX_STORED_SEEDS},
        ) from error


@dataclass(frozen=True)
class _StudyKeys:
    """The keys of a study's YAML that become fields of a `StudyRecord`.

    null counts as missing where it is allowed.
    """

    seeds: Annotated[
        Annotated[int, Field(ge=0, le=MAX_STORED_SEEDS)] | list[Seed] | None,
        WrapValidator(_explain_invalid_seeds),
    ] = None
    n_trials: Annotated[int, Field(ge=0)] | None = None
    smallest_effect: Annotated[float, Field(gt=0, le=100)] = 1.0
    description: str | None = None


@dataclass(frozen=True)
class StudyRecord:
    """A study, as described by the tags of its own run.

    Attributes:
        factors: Factors in the order of the YAML.
        configurations: All planned configurations, including controls. Two may have the same key:
            a control may equal a configuration of the space, and a sampler may repeat a proposal.
        seeds: Seeds of each configuration. () if the tags lack them.
        n_trials: Number of configurations to try (the YAML's `n_trials`). 0 if it is not limited.
        objective: Selection metric that the study maximizes. "" if the tags lack it.
        sampler: Name of the sampler.
        smallest_effect: Smallest difference of interest, in percentage points.
        description: Description in the YAML. "" if there is none.
        yaml_content: All keys of the YAML, including defaults. {} if the tags lack them.
        is_complete: Whether ship-sweep completed the study when it last ran it.
        versions: Package -> version when ship-sweep last ran the study. Includes ship-sweep itself.
            Packages of unknown version are omitted.
    """

    factors: tuple[FactorRecord, ...] = ()
    configurations: tuple[ConfigurationRecord, ...] = ()
    seeds: tuple[int, ...] = ()
    n_trials: int = 0
    objective: str = ""
    sampler: str = "grid"
    smallest_effect: float = 1.0
    description: str = ""
    yaml_content: Mapping[str, Any] = field(default_factory=dict)
    is_complete: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> "StudyRecord":
        """Read a record from the tags of a study's own run.

        Attributes whose tags are missing have their default values.

        Raises:
            StoreError: A tag is invalid.
        """
        keys = _parse_tag(tags, Tag.STUDY, _StudyKeys, "{}")
        packages = _parse_tag(tags, Tag.PACKAGES, dict[str, Any], "{}")
        versions = {**packages, "ship-sweep": tags.get(Tag.CODE_VERSION, "")}
        seeds_or_count = keys.seeds or 0
        seeds = range(seeds_or_count) if isinstance(seeds_or_count, int) else seeds_or_count
        return cls(
            factors=_parse_tag(tags, Tag.FACTORS, tuple[FactorRecord, ...], "[]"),
            configurations=_parse_tag(tags, Tag.PLANNED, tuple[ConfigurationRecord, ...], "[]"),
            seeds=tuple(seeds),
            n_trials=keys.n_trials or 0,
            objective=tags.get(Tag.OBJECTIVE, ""),
            sampler=tags.get(Tag.SAMPLER, "grid"),
            smallest_effect=keys.smallest_effect,
            description=keys.description or "",
            yaml_content=_parse_tag(tags, Tag.STUDY, dict[str, Any], "{}"),
            is_complete=tags.get(Tag.STATE) == COMPLETE,
            versions={name: str(version) for name, version in versions.items() if version},
        )


def make_planned_tags(configuration_jsons: Iterable[str]) -> dict[str, str]:
    """Return Tag.PLANNED, the list of a study's planned configurations.

    A long list is continued in further tags, see split_tag.

    Args:
        configuration_jsons: Result of `ConfigurationRecord.to_json` for each configuration.
    """
    return split_tag(Tag.PLANNED, f"[{', '.join(configuration_jsons)}]")


def _parse_tag(tags: Mapping[str, str], tag: str, value_type: type[T], default: str) -> T:
    """Return the validated value of a JSON tag, which may be continued in TAG.1 and so on.

    Args:
        tags: Tags of the study's own run.
        tag: Name of the tag.
        value_type: Type of the value.
        default: JSON to use if the tag is missing.

    Raises:
        StoreError: The tag is not JSON of that type.
    """
    try:
        return TypeAdapter(value_type).validate_json(join_tag(tags, tag, default), strict=True)
    except ValidationError as error:
        first_error = error.errors()[0]
        field_path = ".".join(map(str, first_error["loc"]))
        fault = f"{field_path}: {first_error['msg']}" if field_path else first_error["msg"]
        raise StoreError(f"invalid MLflow tag {tag}: {fault}") from error
