"""What the store says that a study was when it was last worked on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.store.open import Store
from harness.store.tags import joined_tag
from reports.contract import Kind, Tag


@dataclass(frozen=True)
class StoredSetting:
    """A setting of the study's table, or a reference arm of it."""

    assignment: Mapping[str, Any]
    arm: str


@dataclass(frozen=True)
class StoredStudy:
    """The study's table when it was last worked on.

    settings: setting key -> what the table holds under it; two where an arm equals a setting.
    seeds: setting key -> the seeds that the table holds of it.
    factors: key -> levels, None where values were drawn from a range.
    """

    settings: Mapping[str, Sequence[StoredSetting]]
    seeds: Mapping[str, frozenset[int]]
    factors: Mapping[str, Sequence[Any] | None]


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


def read_stored_study(store: Store, experiment_id: str) -> StoredStudy | None:
    """What the study's own run says; None: there is none, or it says nothing that can be read.

    Raises:
        StoreError: the store cannot be read.
    """
    run_id = find_study_run(store, experiment_id)
    if run_id is None:
        return None
    tags = store.read(lambda client: client.get_run(run_id)).data.tags
    settings: dict[str, list[StoredSetting]] = {}
    seeds: dict[str, frozenset[int]] = {}
    try:
        usual = json.loads(joined_tag(Tag.STUDY, tags))["seeds"]
        for entry in json.loads(joined_tag(Tag.WANTED, tags)):
            key, one = entry["setting_key"], StoredSetting(entry["assignment"], entry["arm"])
            settings.setdefault(key, []).append(one)
            seeds[key] = frozenset(entry.get("seeds", usual))
        factors = json.loads(joined_tag(Tag.FACTORS, tags))
        return StoredStudy(settings, seeds, {one["key"]: one["levels"] for one in factors})
    except (ValueError, KeyError, TypeError):
        return None
