"""The run history, which has one outcome per configuration and seed."""

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.store import Run, State, Tag, history, is_finished, name_seed_metric, runs
from harness.store.errors import StoreError, wrap_client
from harness.store.history import (
    RunHistory,
    RunRecord,
    make_run_record,
    read_runs_of_other_studies,
)
from harness.store.open import open_store
from reports.study.load import load_records
from reports.study.rows import make_seed_rows
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.planning.builders import build_record
from tests.reports.builder import StoreBuilder, make_scores

STATES = list(State)


def make_record(key: str, seeds: tuple[int, ...], state: State, **fields: Any) -> RunRecord:
    """Return the record of a run of the configuration with this key."""
    configuration: Any = SimpleNamespace(key=key, control="", assignment={})
    return build_record(configuration, seeds, state=state, **fields)


run_lists = st.lists(
    st.builds(
        make_record,
        st.sampled_from(["a", "b"]),
        st.sets(st.integers(0, 3), min_size=1).map(lambda seeds: tuple(sorted(seeds))),
        st.sampled_from(STATES),
    ),
    max_size=12,
)


@given(run_lists)
def test_best_outcome_of_a_seed_counts(records: list[RunRecord]) -> None:
    """COMPLETE ranks before PRUNED, and PRUNED before FAIL. Unfinished runs have no outcome."""
    history = RunHistory(tuple(records))
    ranking = (State.COMPLETE, State.PRUNED, State.FAIL)
    for key in "ab":
        runs_by_seed = history.runs_by_seed(key)
        complete = {seed for seed, run in runs_by_seed.items() if run.state is State.COMPLETE}
        assert set(history.objectives(key)) == complete
        for seed in range(4):
            states = {
                record.state
                for record in records
                if record.config_key == key and seed in record.seeds
            }
            best = next((state for state in ranking if state in states), None)
            run = runs_by_seed.get(seed)
            assert (run.state if run else None) is best


def test_seed_without_required_metric_is_rerun(bench: Bench) -> None:
    """Only that seed is rerun. Until then the report shows it as failed."""
    study = make_study(space={"generator.n_ctx": [1]})
    bench.run(study)
    assert len(bench.list_started()) == 2
    path = bench.uri.removeprefix("sqlite:///")
    for table in ("metrics", "latest_metrics"):
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            file.execute(f"DELETE FROM {table} WHERE key = 'test/base/seed_0'")
    before = load_records("small", bench.uri)
    assert before.rows.sort("seed")["state"].to_list() == ["FAIL", "COMPLETE"]
    assert "seed 0: COMPLETE, but no finite test/base logged" in before.warnings[0]
    (row,) = bench.plan(study).rows
    assert (row.seeds, row.done) == ((0,), (1,))
    assert bench.run(study).complete
    assert len(bench.list_started()) == 3
    after = load_records("small", bench.uri)
    assert after.rows["state"].to_list() == ["COMPLETE"] * 2
    assert (after.warnings, after.n_left_out) == ((), 0)
    seeds = [run.data.tags["ship.seeds"] for run in bench.list_trials()]
    assert seeds == ["[0, 1]", "[0]"] and bench.plan(study).finished


@pytest.mark.parametrize(
    ("tags", "missing", "finished"),
    [
        ({}, None, True),
        ({Tag.STATE: "PRUNED"}, None, False),
        ({Tag.STATE: "RUNNING"}, None, False),
        ({}, "base", False),
        ({}, "joint_new", True),
        ({Tag.PROTOCOL: "few_shot"}, None, False),
        ({Tag.PROTOCOL: "of a plugin"}, "base", True),
    ],
)
def test_finished_seed_has_all_required_metrics(
    tags: dict[str, str], missing: str | None, finished: bool
) -> None:
    """Its run is COMPLETE. History, plan, reuse and report have the same rule."""
    tags = {Tag.STATE: "COMPLETE", Tag.KIND: "trial", Tag.CONFIG_KEY: "a", **tags}
    tags[Tag.SEEDS] = "[3, 4]"
    metrics = {
        name_seed_metric(3, f"test/{name}"): value for name, value in make_scores(50.0).items()
    }
    if missing:
        metrics[name_seed_metric(3, f"test/{missing}")] = math.nan
    run = Run("r", 0, tags, {}, metrics)
    assert is_finished(tags, metrics, 3) is finished
    runs_by_seed = RunHistory((make_run_record(run, "harmonic_mean"),)).runs_by_seed("a")
    assert (3 in runs_by_seed and runs_by_seed[3].state is State.COMPLETE) is finished
    rows = {row["seed"]: row for row in make_seed_rows(make_run_record(run))}
    assert (rows[3]["state"] == "COMPLETE") is finished
    if Tag.PROTOCOL not in tags:
        assert not is_finished(tags, metrics, 4) and rows[4]["state"] != "COMPLETE"


def test_records_follow_the_definition_of_a_finished_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no rule of their own."""
    builder = StoreBuilder().add_run({}, {3: make_scores(50.0), 4: make_scores(50.0)})
    monkeypatch.setattr(history, "is_finished", lambda tags, metrics, seed: seed == 4)
    record = make_run_record(builder.runs[0], "harmonic_mean")
    assert [*RunHistory((record,)).runs_by_seed(record.config_key)] == [4]
    assert [row["state"] for row in make_seed_rows(record)] == ["FAIL", "COMPLETE"]


@pytest.mark.parametrize(
    ("n_keys", "n_without_runs", "n_requests"),
    [
        (5, 0, 5),  # few configurations: a request for each
        (12, 0, 1 + 4),  # the plans, then pages of three runs
        (40, 0, 1 + 4),  # also if other studies plan only some of them
        (12, 30, 1 + 12),  # pages would contain more than three times as many runs
    ],
)
def test_many_configurations_of_other_studies_are_read_in_pages(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_keys: int,
    n_without_runs: int,
    n_requests: int,
) -> None:
    """Studies that plan none of the configurations are not read."""
    monkeypatch.setattr(history, "_MAX_UNCHECKED_KEYS", 5)
    monkeypatch.setattr(runs, "PAGE", 3)
    other, unrelated = StoreBuilder(name="other"), StoreBuilder(name="unrelated")
    for index in range(12):
        other.add_run({"n": index}, {0: make_scores(50.0)}, key=f"key{index}")
    for index in range(n_without_runs):
        other.add_planned({"n": -index}, key=f"planned{index}")
    unrelated.add_run({}, {0: make_scores(50.0)}, key="unrelated")
    uri = unrelated.write(other.write(f"sqlite:///{tmp_path}/mlflow.db"))
    requests: list[str] = []

    def count_request(name: str, call: Callable[[], Any]) -> Any:
        requests.append(name)
        return call()

    client = wrap_client(open_store(uri).client, count_request)
    keys = [f"key{index}" for index in range(n_keys)]
    records = read_runs_of_other_studies(client, "small", keys)
    assert [(record.study_name, record.config_key) for record in records] == [
        ("other", key) for key in keys[:12]
    ]
    assert requests.count("search_runs") == n_requests


def test_latest_failure_reason_counts() -> None:
    """Reasons of earlier runs may be outdated."""
    first = make_record("a", (0,), State.FAIL, reason="old")
    second = make_record("a", (0,), State.FAIL, reason="new")
    assert RunHistory((first, second)).runs_by_seed("a")[0].reason == "new"


@pytest.mark.parametrize(
    ("tag", "value"),
    [("state", "DONE"), ("state", "DONE" * 99), ("seeds", "0, 1"), ("seeds", "null"),
     ("assignment", "null"), ("failure", "gone")],
)  # fmt: skip
def test_run_with_invalid_tags_is_named(bench: Bench, tag: str, value: str) -> None:
    """The message advises to delete the run, after which its seeds are rerun."""
    study = make_study(space={"generator.n_ctx": [1]})
    bench.run(study)
    (run,), client = bench.list_trials(), bench.open_store().client
    client.set_tag(run.info.run_id, f"ship.{tag}", value)
    line = (
        f"^{bench.uri}: run {run.info.run_id} has invalid tags .*delete the run to rerun its seeds$"
    )
    with pytest.raises(StoreError, match=line):
        bench.run(study)
    client.delete_run(run.info.run_id)
    assert bench.run(study).complete
