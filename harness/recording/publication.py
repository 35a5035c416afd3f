"""Writes a report to the study's own run, where its reviewer looks first."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from harness.store import MAX_TAG, Changes, Store, points
from reports.contract import HEADLINE, REPORT, Publication, Tag

# Bytes of the report's files together; they may have to wait on disk as one text.
MOST_BYTES = 32 * 2**20


def publish(store: Store, run_id: str, made: Publication) -> bool:
    """Show a report at the study's own run, unless the run shows it already.

    The digest is written last: if the driver is killed before, the next run of the study writes all
    of it again, which changes nothing that is there.

    Args:
        store: an open store.
        run_id: of the study's own run.
        made: what is to be shown.

    Returns:
        Whether anything was written.

    Raises:
        StoreError: the store cannot be read, or refuses what is written.
    """
    run = store.read(lambda client: client.get_run(run_id))
    digest = _digest(made)
    if run.data.tags.get(Tag.PUBLISHED) == digest:
        return False
    held = run.data.params
    changes = Changes(
        run=run_id,
        files={f"{REPORT}/{name}": content for name, content in _as_many_as_fit(made).items()},
        metrics=points({**_withdrawn(made, run.data.metrics), **made.metrics}),
        params={name: text for name, text in made.params.items() if name not in held},
        tags={
            Tag.RUN_NOTE: _note(made, _outdated(made.params, held)),
            Tag.BEST: made.best,
            Tag.PUBLISHED: digest,
        },
    )
    store.write(changes)
    return True


def _digest(made: Publication) -> str:
    """Of all that is shown; the files, which take seconds to make, count by their stamp."""
    said = {
        "metrics": dict(made.metrics),
        "params": dict(made.params),
        "best": made.best,
        "note": made.note,
        "stamp": made.stamp,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _as_many_as_fit(made: Publication) -> dict[str, bytes]:
    """The page, then the smallest files first, while they fit in MOST_BYTES."""
    every = made.files()
    files, left = {}, MOST_BYTES
    for name in sorted(every, key=lambda name: (name != made.page, len(every[name]))):
        left -= len(every[name])
        if left < 0:
            break
        files[name] = every[name]
    return files


def _withdrawn(made: Publication, held: Mapping[str, float]) -> dict[str, float]:
    """Headlines that do not hold any more: MLflow cannot delete a metric, so they become NaN."""
    gone = [name for name in held if name.startswith(HEADLINE) and name not in made.metrics]
    return {name: math.nan for name in gone if not math.isnan(held[name])}


def _outdated(params: Mapping[str, str], held: Mapping[str, str]) -> dict[str, str]:
    """Params whose first value, which MLflow keeps for ever, is not that of the study any more."""
    return {
        name: params.get(name, "no constant")
        for name, text in sorted(held.items())
        if params.get(name) != text
    }


def _note(made: Publication, outdated: Mapping[str, Any]) -> str:
    """The note, cut at the end of a line to what a tag holds."""
    head = ""
    if outdated:
        now = ", ".join(f"`{name}` {text}" for name, text in outdated.items())
        head = f"MLflow keeps the first value of a parameter; these are now: {now}.\n\n"
    tail = f"\nThe whole report: Artifacts, `{REPORT}/{made.page}`."
    room = MAX_TAG - len(tail)
    text = head + made.note
    if len(text) > room:
        text = text[:room].rpartition("\n")[0] + "\n"
    return text + tail
