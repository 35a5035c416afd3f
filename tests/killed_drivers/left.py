"""Check the content of a study whose drivers were killed."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.harness.conftest import Bench
from tests.harness.listening import marked
from tests.killed_drivers.place import Place

SETTINGS = 4
LOCKS = f"ship-sweep-{os.getuid()}"
# Ray's own processes see that their driver is gone, and end
GONE_SECONDS = 60.0
# What no two runs of one setting share; the digest is of a file that contains the study's name.
VOLATILE = (
    "mlflow.", "ship.run_key", "ship.parent_run", "ship.fused", "ship.code_version",
    "ship.yaml_digest",
)  # fmt: skip


def content(bench: Bench, name: str) -> dict[str, Any]:
    """Return a finished study's reproducible content by configuration key."""
    client = bench.store().client
    content_by_key: dict[str, Any] = {}
    for run in bench.runs(name):
        tags = {
            key: value.replace(f'"{name}"', '"NAME"')
            for key, value in run.data.tags.items()
            if not key.startswith(VOLATILE)
        }
        if tags["ship.state"] == "INTERRUPTED":
            continue
        points = {
            key: [
                (point.step, point.value.hex()) for point in client.get_metric_history(run_id, key)
            ]
            for run_id in [run.info.run_id]
            for key in run.data.metrics
            if "trial/" not in key
        }
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        key = tags.get("ship.config_key", "study")
        if key in content_by_key:
            raise AssertionError(f"{key} is there twice")
        content_by_key[key] = (run.info.status, tags, run.data.params, points, files)
    return content_by_key


def difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Return a description of the configurations that differ, or ""."""
    differ = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    return "; ".join(f"{key}: {ours.get(key)!r} and not {theirs.get(key)!r}" for key in differ)


def faults_of(place: Place, calm: dict[str, Any]) -> Iterator[str]:
    """Yield differences of a finished study from an undisturbed one."""
    bench = place.bench()
    try:
        bench.check_invariants(place.name)
    except AssertionError as error:
        yield f"the ledger is not exact: {error}"
    states = Counter(run.data.tags["ship.state"] for run in bench.trials(place.name))
    if states["COMPLETE"] != SETTINGS or set(states) - {"COMPLETE", "INTERRUPTED"}:
        yield f"runs: {dict(states)}"
    try:
        description = difference(content(bench, place.name), calm)
    except AssertionError as error:
        description = str(error)
    if description:
        yield description
    left = [path.name for path in (place.folder / "tmp").iterdir() if path.name != LOCKS]
    cache = place.folder / "cache"
    # a temporary file of a write that was cut off may be there: ship.whole_file sweeps it
    unfinished = [*cache.rglob("*.part"), *cache.rglob("*.safetensors")]
    left += [str(path.relative_to(cache)) for path in unfinished]
    if left:
        yield f"left on disk: {', '.join(sorted(left))}"
    end = time.monotonic() + GONE_SECONDS
    while (alive := marked(place.mark)) and time.monotonic() < end:
        time.sleep(0.2)
    if alive:
        yield f"left alive: {alive}"
