"""Differences to the baseline in the descriptions of runs in MLflow."""

import pytest

from harness.store import Tag
from reports.formatting import format_number
from reports.tables import get_first_family, run_differences
from tests.reports.builder import prompt_len
from tests.reports.studies import over_datasets

METRIC = "harmonic_mean"


def test_each_run_has_the_difference_of_its_table() -> None:
    """It is that of its configuration or control to the baseline, over common seeds."""
    builder = prompt_len()
    study = builder.study()
    texts = run_differences(study, METRIC)
    expected = {
        run_id: f"ΔH {format_number(compared.difference.mean, signed=True)} ± "
        for group, compared in get_first_family(study, METRIC).comparisons.items()
        for run_id in group.column("run_id")
    }
    assert texts.keys() == expected.keys() and len(texts) == 8
    assert all(texts[run_id].startswith(expected[run_id]) for run_id in texts)
    (run,) = [run for run in builder.runs if run.tags[Tag.ASSIGNMENT] == '{"generator.n_ctx": 16}']
    assert texts[run.run_id] == "ΔH −0.1 ± 0.9, 5 seeds"


def test_large_studies_and_averages_have_no_descriptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each changed description is a request, and a run on one dataset is no average."""
    assert run_differences(over_datasets().study(), METRIC) == {}
    monkeypatch.setattr("reports.tables.run_descriptions.MAX_DESCRIBED", 3)
    assert run_differences(prompt_len().study(), METRIC) == {}
