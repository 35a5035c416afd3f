"""The file seeds.csv, which has a run's final numbers per seed."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.store import (
    PROTOCOLS,
    Run,
    RunFiles,
    Tag,
    format_seeds_csv,
    is_logged,
    list_logged_names,
    merge_seeds_csv,
    name_seed_metric,
    parse_seeds_csv,
)

NUMBERS = {
    name_seed_metric(seed, name): 50.0 + seed / 3
    for seed in (0, 7)
    for name in ("test/base", "test/auroc", "test/quality/coverage", "selection/loss")
}


@given(
    st.dictionaries(
        st.tuples(st.integers(0, 2**63 - 1), st.sampled_from(["test/new", "selection/loss", "a"])),
        st.floats(allow_nan=False),
    )
)
def test_numbers_are_read_back_exactly(numbers: dict[tuple[int, str], float]) -> None:
    """All digits are restored, also if a seed lacks a metric."""
    keyed = {name_seed_metric(seed, name): value for (seed, name), value in numbers.items()}
    assert parse_seeds_csv(format_seeds_csv(keyed)) == keyed


def test_rows_are_metrics_and_columns_are_seeds() -> None:
    """There are no means over seeds. MLflow shows the file as a table."""
    lines = format_seeds_csv({**NUMBERS, "test/base": 1.0}).decode().splitlines()
    assert lines[0] == "metric,seed_0,seed_7"
    assert lines[2] == "test/auroc,50.0,52.333333333333336"
    assert len(lines) == 5


@pytest.mark.parametrize(
    "damage", [b"", b"\xff", b"metric,seed_x\na,1\n", b"metric,seed_1\na,1,2\n"]
)
def test_damaged_table_has_no_numbers(damage: bytes) -> None:
    """Files of a store are untrusted input, and cause no exception."""
    assert parse_seeds_csv(damage) == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_at_most_six_metrics_are_logged_per_seed(protocol: str) -> None:
    """Only those of tables and the objective are logged, since each metric is a chart in MLflow."""
    rules = PROTOCOLS[protocol]
    names = [f"{kind}/{name}" for kind in ("test", "selection") for name in rules.headings]
    names += ["test/quality/coverage", "test/flag/untrained", "selection_epoch"]
    metrics = list_logged_names(protocol, rules.default)
    logged = {name for name in names if is_logged(name_seed_metric(3, name), metrics)}
    assert {f"test/{name}" for name in (*rules.required, rules.default)} < logged
    assert len(logged) <= 6 and "test/quality/coverage" not in logged


def test_deleted_metric_is_not_restored_from_table(tmp_path: Path) -> None:
    """Its seed is unfinished and has to be rerun. Metrics that are not logged are restored."""
    (tmp_path / "seeds.csv").write_bytes(format_seeds_csv(NUMBERS))
    logged_names = list_logged_names("base_to_new")
    metrics = {key: value for key, value in NUMBERS.items() if is_logged(key, logged_names)}
    del metrics["test/base/seed_7"]
    tags = {Tag.KIND: "trial", Tag.STATE: "COMPLETE", Tag.PROTOCOL: "base_to_new"}
    run = Run("r", 0, tags, {}, metrics)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "seeds.csv").write_bytes(b"metric,seed_7")
    folders = {"r": tmp_path.as_uri(), "damaged": (tmp_path / "damaged").as_uri()}
    other_runs = [replace(run, run_id=run_id) for run_id in ("damaged", "lost")]
    (merged, *_), n_lost = merge_seeds_csv([run, *other_runs], RunFiles(folders=folders))
    assert n_lost == 2
    expected = {key: value for key, value in NUMBERS.items() if key != "test/base/seed_7"}
    assert merged.metrics == expected
