"""What the store says that a study was when it was last worked on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.store.open import Store
from harness.store.tags import joined_tag
from reports.contract import Kind, Tag


@dataclass(frozen=True)
class Wanted:
    """A setting of the study's table, or a reference arm of it; seeds: None: the study's."""

    key: str
    assignment: Mapping[str, Any]
    arm: str
    seeds: frozenset[int] | None = None


@dataclass(frozen=True)
class Recorded:
    """The study's table as it is now.

    seeds: of every setting that has none of its own.
    factors: key -> levels, None where values were drawn from a range.
    """

    wanted: tuple[Wanted, ...]
    seeds: frozenset[int]
    factors: Mapping[str, tuple[Any, ...] | None]

    @cached_property
    def by_key(self) -> Mapping[str, Sequence[Wanted]]:
        """Setting key -> what the table holds under it; two where an arm equals a setting."""
        grouped: dict[str, list[Wanted]] = {}
        for setting in self.wanted:
            grouped.setdefault(setting.key, []).append(setting)
        return grouped

    def seeds_of(self, key: str) -> frozenset[int]:
        """The seeds that the table holds of a setting."""
        own = [wanted.seeds for wanted in self.by_key.get(key, ()) if wanted.seeds is not None]
        return own[0] if own else self.seeds

    @cached_property
    def keys(self) -> frozenset[str]:
        """Keys of the settings that the table holds."""
        return frozenset(self.by_key)


def find_study_run(store: Store, experiment_id: str) -> str | None:
    """Id of the study's own run, the parent of its trials' runs; None if there is none yet.

    Raises:
        StoreError: the store cannot be read.
    """
    runs = store.read(
        lambda client: client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{Tag.KIND}` = '{Kind.STUDY}'",
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
    )
    return str(runs[0].info.run_id) if runs else None


def read_recorded(store: Store, experiment_id: str) -> Recorded | None:
    """What the study's own run says; None: there is none, or it says nothing that can be read.

    Raises:
        StoreError: the store cannot be read.
    """
    run_id = find_study_run(store, experiment_id)
    if run_id is None:
        return None
    tags = store.read(lambda client: client.get_run(run_id)).data.tags
    try:
        wanted = json.loads(joined_tag(Tag.WANTED, tags))
        seeds = json.loads(joined_tag(Tag.STUDY, tags))["seeds"]
        factors = json.loads(joined_tag(Tag.FACTORS, tags))
        return Recorded(
            tuple(map(_wanted, wanted)),
            frozenset(seeds),
            {factor["key"]: _levels(factor["levels"]) for factor in factors},
        )
    except (ValueError, KeyError, TypeError):
        return None


def _wanted(entry: Mapping[str, Any]) -> Wanted:
    own = frozenset(entry["seeds"]) if "seeds" in entry else None
    return Wanted(entry["setting_key"], entry["assignment"], entry["arm"], own)


def _levels(listed: list[Any] | None) -> tuple[Any, ...] | None:
    return None if listed is None else tuple(listed)
