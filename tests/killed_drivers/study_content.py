"""Comparison of a study whose drivers were killed with an undisturbed one."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.harness.conftest import Bench
from tests.harness.processes import find_marked_processes
from tests.killed_drivers.workspace import Workspace

N_CONFIGURATIONS = 4
LOCK_FOLDER = f"ship-sweep-{os.getuid()}"
# Maximum time until Ray's processes have ended after their driver was killed.
EXIT_SECONDS = 60.0
# Prefixes of tags that differ between two runs of the same configuration. ship.yaml_digest differs
# because the YAML contains the study's name.
VOLATILE_TAGS = (
    "mlflow.", "ship.run_key", "ship.parent_run", "ship.fused", "ship.code_version",
    "ship.yaml_digest",
)  # fmt: skip


def read_content(bench: Bench, name: str) -> dict[str, Any]:
    """Return the reproducible content of a finished study by configuration key.

    Raises:
        AssertionError: A configuration has more than one finished run.
    """
    client = bench.open_store().client
    content_by_key: dict[str, Any] = {}
    for run in bench.list_runs(name):
        tags = {
            key: value.replace(f'"{name}"', '"NAME"')
            for key, value in run.data.tags.items()
            if not key.startswith(VOLATILE_TAGS)
        }
        if tags["ship.state"] == "INTERRUPTED":
            continue
        run_id = run.info.run_id
        histories = {
            key: client.get_metric_history(run_id, key)
            for key in run.data.metrics
            if "trial/" not in key
        }
        points = {
            key: [(point.step, point.value.hex()) for point in history]
            for key, history in histories.items()
        }
        files = [file.path for file in client.list_artifacts(run_id)]
        key = tags.get("ship.config_key", "study")
        if key in content_by_key:
            raise AssertionError(f"{key} has two runs")
        content_by_key[key] = (run.info.status, tags, run.data.params, points, files)
    return content_by_key


def describe_difference(content: dict[str, Any], expected: dict[str, Any]) -> str:
    """Return a description of the configurations whose content differs, or ""."""
    keys = [key for key in {**content, **expected} if content.get(key) != expected.get(key)]
    return "; ".join(f"{key}: {content.get(key)!r} and not {expected.get(key)!r}" for key in keys)


def find_faults(workspace: Workspace, expected: dict[str, Any]) -> Iterator[str]:
    """Yield differences of a finished study from an undisturbed one, and what is not cleaned up.

    Args:
        workspace: Folders and store of the study.
        expected: Content of an undisturbed study.
    """
    bench = workspace.make_bench()
    try:
        bench.check_invariants(workspace.name)
    except AssertionError as error:
        yield f"the run history is not exact: {error}"
    states = Counter(run.data.tags["ship.state"] for run in bench.list_trials(workspace.name))
    if states["COMPLETE"] != N_CONFIGURATIONS or set(states) - {"COMPLETE", "INTERRUPTED"}:
        yield f"runs: {dict(states)}"
    try:
        description = describe_difference(read_content(bench, workspace.name), expected)
    except AssertionError as error:
        description = str(error)
    if description:
        yield description
    temporary = [path.name for path in (workspace.folder / "tmp").iterdir()]
    remaining = [name for name in temporary if name != LOCK_FOLDER]
    cache = workspace.folder / "cache"
    # temporary files of interrupted writes, which ship.whole_file deletes at a later write
    unfinished = [*cache.rglob("*.part"), *cache.rglob("*.safetensors")]
    remaining += [str(path.relative_to(cache)) for path in unfinished]
    if remaining:
        yield f"remaining files: {', '.join(sorted(remaining))}"
    deadline = time.monotonic() + EXIT_SECONDS
    while (processes := find_marked_processes(workspace.mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    if processes:
        yield f"remaining processes: {processes}"
