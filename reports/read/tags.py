"""What the tags of a study's runs say of it, taken as somebody else's; which metrics it has."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from reports.contract import (
    ARMS,
    DEFAULT_PROTOCOL,
    PROTOCOLS,
    TARGET,
    Protocol,
    ReportError,
    Tag,
    joined_tag,
)
from reports.read.runs import Run

Content = TypeVar("Content")
MOST_LISTED_SEEDS = 1_000_000  # of a study that is sound
_TARGETS = TypeAdapter(tuple[str, ...])


Seed = Annotated[int, Field(ge=0, lt=2**63)]
Seeds = tuple[Seed, ...]


@dataclass(frozen=True)
class Factor:
    """One factor of the study; levels is None where it is a range."""

    key: str
    levels: tuple[Any, ...] | None = None
    log: bool = False
    baseline: Any = None


@dataclass(frozen=True)
class Setting:
    """One setting that the study wants: its key, its factor values, its arm ("" if none).

    parts: dataset -> the key of the setting there, of an average over datasets.
    """

    key: Annotated[str, Field(alias="setting_key")]
    assignment: dict[str, Any]
    arm: str
    parts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """What reports need of a study's YAML.

    seeds: that it wants now, or how many; 0 where it does not say.
    trials: how many settings a sampler is to try; 0 where it does not say.
    smallest_effect: of interest, in points; 1 in a store that is older than it.
    """

    seeds: Annotated[int, Field(ge=0, le=MOST_LISTED_SEEDS)] | Seeds | None = 0
    trials: int | None = 0
    smallest_effect: Annotated[float, Field(gt=0, le=100)] = 1.0
    description: str | None = ""

    @property
    def listed_seeds(self) -> tuple[int, ...]:
        """The seeds that it wants now, () where it does not say."""
        if isinstance(self.seeds, int):
            return tuple(range(self.seeds))
        return self.seeds or ()


def json_tag(tags: Mapping[str, str], tag: str, kind: type[Content], default: str) -> Content:
    """A JSON tag of the study's own run; a long one goes on in TAG.1, TAG.2.

    Args:
        tags: of the run.
        tag: its name.
        kind: what it must be.
        default: JSON in its place where there is no such tag.

    Raises:
        ReportError: the tag is there and is no JSON of that kind.
    """
    try:
        return TypeAdapter(kind).validate_json(joined_tag(tags, tag, default), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        told = f"{place}: {first['msg']}" if place else first["msg"]
        raise ReportError(f"MLflow tag {tag} is not what ship-sweep writes: {told}") from error


def in_words(assignment: Mapping[str, Any], arm: str) -> str:
    """A setting as a message names it: "generator.n_ctx=4", or its arm with its levels."""
    levels = ", ".join(f"{key}={level}" for key, level in assignment.items())
    if not arm:
        return levels or "constants"
    name = ARMS[arm][0] if arm in ARMS else arm
    return f"{name} ({levels})" if levels else name


def study_protocol(runs: Iterable[Run], metrics: Iterable[str]) -> Protocol:
    """The protocol of a study; cross_dataset with a column for each target before the average.

    Args:
        runs: of its trials. Their params list the targets, as JSON, and `accuracy/TARGET` is a
            metric of one.
        metrics: names of test metrics.

    Raises:
        ReportError: several protocols, or one that these reports do not know.
    """
    runs = list(runs)
    found = sorted({run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL) for run in runs})
    if len(found) != 1 or found[0] not in PROTOCOLS:
        told = f"MLflow tag {Tag.PROTOCOL}: {', '.join(found)}: a study has one of"
        raise ReportError(f"{told} {', '.join(PROTOCOLS)}")
    protocol = PROTOCOLS[found[0]]
    if found != ["cross_dataset"]:
        return protocol
    targets: dict[str, None] = {}
    for text in dict.fromkeys(run.params.get("targets", "[]") for run in runs):
        with contextlib.suppress(ValidationError):
            targets |= dict.fromkeys(_TARGETS.validate_json(text))
    measured = sorted(name for name in metrics if name.startswith(TARGET))
    targets |= dict.fromkeys(name.removeprefix(TARGET) for name in measured)
    columns = {f"{TARGET}{target}": target for target in targets}
    return replace(
        protocol,
        headings={**columns, **protocol.headings},
        shown=(*columns, *protocol.shown),
        drop={**dict.fromkeys(columns, 5), **protocol.drop},
    )


def heading(protocol: Protocol, metric: str) -> str:
    """A metric's column heading; the selection pictures' metrics may be another protocol's."""
    known = (protocol, *PROTOCOLS.values())
    return next((p.headings[metric] for p in known if metric in p.headings), metric)
