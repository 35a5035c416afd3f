"""Configurations are compared with the controls at their levels, or with none."""

from collections.abc import Sequence
from statistics import fmean

import pytest

from harness.store import control_levels
from reports.cells import Value
from reports.render import make_publication
from reports.report import make_report
from reports.study import Study
from reports.tables import build_tables, make_headline
from reports.tables.controls import find_controls_by_configuration
from tests.reports.builder import StoreBuilder, make_scores
from tests.reports.studies import make_factors
from tests.reports.yaml_studies import load_yaml_study

H, JOINT = "harmonic_mean", "joint_harmonic_mean"
LR, N_CTX = "finetuner.lr", "generator.n_ctx"


# New accuracy of each seed at lr 0.01 in yaml_studies/tuned.yaml
FINETUNER_ALONE, TEXT_FEATURE = [62.0, 64.3, 66.1], [61.0, 63.3, 65.6]
N_CTX_4, N_CTX_1 = [61.8, 64.0, 66.0], [61.2, 63.0, 65.4]


def compute_mean_gain(values: Sequence[float], control_values: Sequence[float]) -> float:
    """Return the mean difference in H between lists of new accuracies by seed."""
    pairs = zip(values, control_values, strict=True)
    return fmean(make_scores(value)[H] - make_scores(control)[H] for value, control in pairs)


def remove_control_runs(builder: StoreBuilder, control: str, *, at_levels: bool) -> Study:
    """Return the study without a control at the baseline, or without it at other levels.

    Args:
        builder: The study.
        control: Name of the control.
        at_levels: Whether runs with levels are removed, or those at the baseline.
    """
    assert builder.planned is not None
    builder.planned = [
        entry
        for entry in builder.planned
        if entry["control"] != control or bool(entry["assignment"]) is not at_levels
    ]
    return builder.make_study()


def test_a_control_has_the_levels_of_factors_that_it_does_not_replace() -> None:
    """The fine-tuner alone uses no synthetic features, and the text feature does."""
    assignment = {LR: 0.1, N_CTX: 4, "shots": 2, "synthetic.ratio": 2, "generator": "vae"}
    assert control_levels("no_synthetic", assignment) == {LR: 0.1, "shots": 2}
    assert control_levels("text_feature", assignment) == {
        LR: 0.1,
        "shots": 2,
        "synthetic.ratio": 2,
    }


def test_each_configuration_has_the_control_at_its_levels() -> None:
    """The control of the baseline has no levels, as in stores of earlier versions."""
    study = load_yaml_study("tuned").make_study()
    controls = find_controls_by_configuration(study, "no_synthetic")
    rates = {
        configuration.assignment[LR]: controls[configuration.key].rows[0]["config_key"]
        for configuration in study.non_controls
    }
    assert rates == {0.001: "no_synthetic{}", 0.01: 'no_synthetic{"finetuner.lr": 0.01}'}


def test_the_headline_compares_with_the_controls_at_the_same_levels() -> None:
    """The best rate is compared with the controls at that rate, not with the baseline's."""
    study = load_yaml_study("tuned").make_study()
    result = make_headline(study, H)
    assert result is not None
    assert result.differences["no_synthetic"].mean == pytest.approx(
        compute_mean_gain(N_CTX_4, FINETUNER_ALONE)
    )
    assert result.differences["text_feature"].mean == pytest.approx(
        compute_mean_gain(N_CTX_4, TEXT_FEATURE)
    )
    assert result.differences["baseline"].mean > 6


def test_without_a_control_at_the_levels_there_is_no_comparison() -> None:
    """If controls ran only at the baseline, the best configuration is not compared with them."""
    study = remove_control_runs(load_yaml_study("tuned"), "no_synthetic", at_levels=True)
    result = make_headline(study, H)
    assert result is not None
    assert sorted(result.differences) == ["baseline", "text_feature"]
    report = make_report(study)
    assert f"headline/vs_no_synthetic/{H}" not in make_publication(report).metrics
    best = report.answer.findings[0].text
    assert "compared with the baseline" in best and "fine-tuner alone" not in best


@pytest.mark.parametrize(("joint_effect", "is_named"), [(-13.0, True), (-1.2, False)])
def test_the_baseline_of_one_factor_is_compared_in_joint_h_too(
    joint_effect: float, is_named: bool
) -> None:
    """If H does not change, a loss of joint H beyond the smallest effect is named."""
    builder = StoreBuilder(factors=make_factors(N_CTX, [1, 4], 4), seeds=range(3))
    noise = (-0.3, 0.0, 0.4)
    baseline = {s: {**make_scores(62.0 + s), JOINT: 50 + joint_effect + noise[s]} for s in range(3)}
    control_results = {s: {**make_scores(62.0 + s + noise[s] / 5), JOINT: 50.0} for s in range(3)}
    builder.add_run({N_CTX: 4}, baseline).add_run({N_CTX: 1}, baseline)
    builder.add_run({}, control_results, control="no_synthetic")
    answer = make_report(builder.make_study()).answer
    (text,) = [finding.text for finding in answer.findings if "baseline" in finding.subject]
    assert "Compared with the fine-tuner alone, H is equivalent (0.0 ± 0.1" in text
    assert ("; joint H −13.0 ± 0.9)." in text) is is_named
    assert ("joint H" in text) is is_named


def test_a_table_compares_each_level_with_the_control_at_that_level() -> None:
    """The column of the text feature is only in CSV files.

    Tables of factors that a control does not use have no such column.
    """
    tables = {table.name: table for table in build_tables(load_yaml_study("tuned").make_study())}
    lr_table = tables[LR]
    cells = {row.level: row.cells["vs_no_synthetic"] for row in lr_table.non_controls}
    means = {level: cell.estimate for level, cell in cells.items() if isinstance(cell, Value)}
    expected = (
        compute_mean_gain(N_CTX_4, FINETUNER_ALONE) + compute_mean_gain(N_CTX_1, FINETUNER_ALONE)
    ) / 2
    assert means["0.01"].mean == pytest.approx(expected)
    assert {estimate.n for estimate in means.values()} == {3}
    columns = {column.key: column for column in lr_table.columns}
    assert columns["vs_text_feature"].csv_only and not columns["vs_no_synthetic"].csv_only
    assert "vs_no_synthetic" not in {column.key for column in tables[N_CTX].columns}
    assert all(
        "vs_no_synthetic" not in row.cells for row in tables["configurations"].rows if row.control
    )


def test_tables_over_datasets_name_the_dataset_of_the_controls() -> None:
    """The controls ran on one dataset. Its table has the column, and the others have a note."""
    factors = [*make_factors("dataset", ["a", "b"], "a"), *make_factors(LR, [0.001, 0.01], 0.001)]
    builder = StoreBuilder(factors=factors, seeds=range(3))
    for dataset in ("a", "b"):
        for rate in (0.001, 0.01):
            assignment = {"dataset": dataset, LR: rate}
            builder.add_run(assignment, {s: make_scores(60.0 + s + 100 * rate) for s in range(3)})
    control_results = {s: make_scores(60.0 + s) for s in range(3)}
    builder.add_run({}, control_results, control="no_synthetic")
    builder.add_run({"dataset": "a", LR: 0.01}, control_results, control="no_synthetic")
    tables = {table.name: table for table in build_tables(builder.make_study()) if table.kind}
    tables_with_column = {
        name
        for name, table in tables.items()
        if "vs_no_synthetic" in {column.key for column in table.columns}
    }
    assert tables_with_column == {f"a-{LR}"}
    note = "no column vs fine-tuner alone: the controls ran only on a; see its table"
    tables_with_note = {name for name, table in tables.items() if note in table.notes}
    assert tables_with_note == {"datasets", f"b-{LR}"}
    means = [row.cells["vs_no_synthetic"] for row in tables[f"a-{LR}"].non_controls]
    gains = [
        compute_mean_gain([60 + 100 * rate + s for s in range(3)], [60, 61, 62])
        for rate in (0.001, 0.01)
    ]
    assert [c.estimate.mean for c in means if isinstance(c, Value)] == pytest.approx(gains)
