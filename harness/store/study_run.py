"""What the store says of a study since it was last worked on: its table, and runs left open.

And how its settings and long texts are written there, as MLflow's params and tags.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.store.changes import MAX_TAG, Changes, runs_of, send, weight
from harness.store.open import Store
from reports.contract import Kind, State, Tag, joined_tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from ship.trial_config import TrialConfig

# Why a trial's run was cut short.
INTERRUPTED = "the study was interrupted"
LEFT = "its driver ended without closing it"


@dataclass(frozen=True)
class StoredStudy:
    """The study's table when it was last worked on.

    seeds: setting key -> the seeds that the table holds of it.
    factors: key -> levels, None where values were drawn from a range.
    """

    seeds: Mapping[str, frozenset[int]] = field(default_factory=dict)
    factors: Mapping[str, Sequence[Any] | None] = field(default_factory=dict)


def find_study_run(store: Store, experiment_id: str) -> Any:
    """The study's own run, the parent of its trials' runs, as MLflow has it; None: there is none.

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
    return runs[0] if runs else None


def read_stored_study(store: Store, experiment_id: str) -> StoredStudy:
    """What the study's own run says; nothing where there is none, or it cannot be read.

    Raises:
        StoreError: the store cannot be read.
    """
    run = find_study_run(store, experiment_id)
    tags = run.data.tags if run else {}
    try:
        study, wanted, factors = (
            json.loads(joined_tag(tags, tag)) for tag in (Tag.STUDY, Tag.WANTED, Tag.FACTORS)
        )
        return StoredStudy(
            {one["setting_key"]: frozenset(one.get("seeds", study["seeds"])) for one in wanted},
            {one["key"]: one["levels"] for one in factors},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return StoredStudy()


def close_dead_runs(store: Store, experiment_id: str, reason: str = LEFT) -> int:
    """Mark runs that a dead driver left RUNNING as INTERRUPTED; returns how many there were.

    One whose last state was already written, and only MLflow's status was not, keeps that state.
    One that was made by a request which had been given up, so that another with its key was made
    and written to, is deleted.

    Args:
        store: an open store.
        experiment_id: of the study.
        reason: why a trial's run was cut short, for people.
    """
    return store.read(lambda client: _close(client, experiment_id, reason))


def _close(client: "MlflowClient", experiment_id: str, reason: str) -> int:
    dead = client.search_runs(
        [experiment_id], filter_string="attributes.status = 'RUNNING'", max_results=1000
    )
    for run in dead:
        run_id, tags = run.info.run_id, run.data.tags
        same = runs_of(client, experiment_id, tags[Tag.RUN_KEY]) if Tag.RUN_KEY in tags else []
        if any(weight(other) > weight(run) for other in same):
            client.set_terminated(run_id, status="KILLED")
            client.delete_run(run_id)
            continue
        of_trial = tags.get(Tag.KIND) == Kind.TRIAL
        state = State(tags.get(Tag.STATE, State.RUNNING)) if of_trial else State.RUNNING
        cut = state is State.RUNNING
        changes = Changes(run=run_id, tags={Tag.REASON: reason} if cut and of_trial else {})
        send(client, changes.in_state(State.INTERRUPTED if cut else state), {})
    return len(dead)


def split_tag(name: str, text: str) -> dict[str, str]:
    """A tag of any length: MLflow cuts after 8000 characters, so it goes on in NAME.1, NAME.2.

    Args:
        name: of the first tag.
        text: the whole of it.
    """
    return {
        f"{name}.{index}" if index else name: text[index * MAX_TAG : (index + 1) * MAX_TAG]
        for index in range(max(1, -(-len(text) // MAX_TAG)))
    }


def params(config: "TrialConfig") -> dict[str, str]:
    """Every dotted field of a trial as MLflow shows it; a group with variants by its name too."""
    texts: dict[str, str] = {}

    def walk(prefix: str, group: Mapping[str, Any]) -> None:
        for name, value in group.items():
            if isinstance(value, dict):
                if "name" in value:
                    texts[f"{prefix}{name}"] = value["name"]
                walk(f"{prefix}{name}.", value)
            else:
                texts[f"{prefix}{name}"] = param_text(value)

    walk("", config.model_dump(mode="json"))
    return texts


def param_text(value: Any) -> str:
    """A setting's value as MLflow shows it."""
    return value if isinstance(value, str) else json.dumps(value, default=list)
