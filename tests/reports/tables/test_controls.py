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
from tests.reports.builder import StoreBuilder, scores
from tests.reports.listed import listed
from tests.reports.studies import one_factor

H, JOINT = "harmonic_mean", "joint_harmonic_mean"
LR, N_CTX = "finetuner.lr", "generator.n_ctx"


# New accuracy of each seed, as in the file
FINETUNER_ALONE, TEXT = ([62.0, 64.3, 66.1], [61.0, 63.3, 65.6])  # at lr 0.01
BEST, OTHER = ([61.8, 64.0, 66.0], [61.2, 63.0, 65.4])  # at lr 0.01, n_ctx 4 and 1


def gain(new: Sequence[float], differences: Sequence[float]) -> float:
    """Return the mean difference in H of two lists of seeds."""
    pairs = zip(new, differences, strict=True)
    return fmean(scores(run)[H] - scores(control)[H] for run, control in pairs)


def without(builder: StoreBuilder, control: str, *, at_levels: bool) -> Study:
    """Return the study as an earlier version left it: without some runs of a control."""
    assert builder.wanted is not None
    builder.wanted = [
        entry
        for entry in builder.wanted
        if entry["control"] != control or bool(entry["assignment"]) is not at_levels
    ]
    return builder.study()


def test_a_control_reads_what_it_does_not_replace() -> None:
    """The fine-tuner alone uses no synthetic features, and the text feature does."""
    assignment = {LR: 0.1, N_CTX: 4, "shots": 2, "synthetic.ratio": 2, "generator": "vae"}
    assert control_levels("no_synthetic", assignment) == {LR: 0.1, "shots": 2}
    assert control_levels("text_feature", assignment) == {
        LR: 0.1,
        "shots": 2,
        "synthetic.ratio": 2,
    }


def test_each_configuration_has_the_control_at_its_levels() -> None:
    """A control without levels is that of the baseline, as in stores of earlier versions."""
    study = listed("tuned").study()
    controls = find_controls_by_configuration(study, "no_synthetic")
    rates = {
        configuration.assignment[LR]: controls[configuration.key].rows[0]["config_key"]
        for configuration in study.non_controls
    }
    assert rates == {0.001: "no_synthetic{}", 0.01: 'no_synthetic{"finetuner.lr": 0.01}'}


def test_the_headline_compares_with_the_controls_at_the_same_levels() -> None:
    """The best rate is compared with the controls at that rate, not with the baseline's."""
    study = listed("tuned").study()
    result = make_headline(study, H)
    assert result is not None
    assert result.differences["no_synthetic"].mean == pytest.approx(gain(BEST, FINETUNER_ALONE))
    assert result.differences["text_feature"].mean == pytest.approx(gain(BEST, TEXT))
    assert result.differences["baseline"].mean > 6


def test_without_a_control_at_the_levels_there_is_no_comparison() -> None:
    """A study with controls only at the baseline has neither a number nor a sentence."""
    study = without(listed("tuned"), "no_synthetic", at_levels=True)
    result = make_headline(study, H)
    assert result is not None
    assert sorted(result.differences) == ["baseline", "text_feature"]
    report = make_report(study)
    assert f"headline/vs_no_synthetic/{H}" not in make_publication(report).metrics
    best = report.answer.findings[0].text
    assert "compared with the baseline" in best and "fine-tuner alone" not in best


@pytest.mark.parametrize(("joint", "is_named"), [(-13.0, True), (-1.2, False)])
def test_the_baseline_of_one_factor_is_compared_in_joint_h_too(
    joint: float, is_named: bool
) -> None:
    """A loss of joint H beyond the smallest effect is named if H does not change."""
    builder = StoreBuilder(factors=one_factor(N_CTX, [1, 4], 4), seeds=range(3))
    noise = (-0.3, 0.0, 0.4)
    baseline = {s: {**scores(62.0 + s), JOINT: 50 + joint + noise[s]} for s in range(3)}
    alone = {s: {**scores(62.0 + s + noise[s] / 5), JOINT: 50.0} for s in range(3)}
    builder.trial({N_CTX: 4}, baseline).trial({N_CTX: 1}, baseline)
    builder.trial({}, alone, control="no_synthetic")
    answer = make_report(builder.study()).answer
    (text,) = [finding.text for finding in answer.findings if "baseline" in finding.subject]
    assert "Compared with the fine-tuner alone, H is equivalent (0.0 ± 0.1" in text
    assert ("; joint H −13.0 ± 0.9)." in text) is is_named
    assert ("joint H" in text) is is_named


def test_a_table_compares_each_level_with_the_control_at_that_level() -> None:
    """Factors that a control does not read have the baseline's control as a row.

    The difference to the text feature is only in the files.
    """
    tables = {table.name: table for table in build_tables(listed("tuned").study())}
    effects = tables[LR]
    cells = {row.level: row.cells["vs_no_synthetic"] for row in effects.non_controls}
    means = {level: cell.estimate for level, cell in cells.items() if isinstance(cell, Value)}
    both = (gain(BEST, FINETUNER_ALONE) + gain(OTHER, FINETUNER_ALONE)) / 2
    assert means["0.01"].mean == pytest.approx(both)
    assert {estimate.n for estimate in means.values()} == {3}
    columns = {column.key: column for column in effects.columns}
    assert columns["vs_text_feature"].csv_only and not columns["vs_no_synthetic"].csv_only
    assert "vs_no_synthetic" not in {column.key for column in tables[N_CTX].columns}
    assert all(
        "vs_no_synthetic" not in row.cells for row in tables["configurations"].rows if row.control
    )


def test_tables_over_datasets_name_the_dataset_of_the_controls() -> None:
    """The table of the baseline's dataset has the column, and the others give the reason."""
    factors = [*one_factor("dataset", ["a", "b"], "a"), *one_factor(LR, [0.001, 0.01], 0.001)]
    builder = StoreBuilder(factors=factors, seeds=range(3))
    for dataset in ("a", "b"):
        for rate in (0.001, 0.01):
            assignment = {"dataset": dataset, LR: rate}
            builder.trial(assignment, {s: scores(60.0 + s + 100 * rate) for s in range(3)})
    alone = {s: scores(60.0 + s) for s in range(3)}
    builder.trial({}, alone, control="no_synthetic")
    builder.trial({"dataset": "a", LR: 0.01}, alone, control="no_synthetic")
    tables = {table.name: table for table in build_tables(builder.study()) if table.kind}
    why = "no column vs fine-tuner alone: the controls ran only on a; see its table"
    compared = {
        name for name, t in tables.items() if "vs_no_synthetic" in {c.key for c in t.columns}
    }
    assert compared == {f"a-{LR}"}
    assert {name for name, table in tables.items() if why in table.notes} == {"datasets", f"b-{LR}"}
    means = [row.cells["vs_no_synthetic"] for row in tables[f"a-{LR}"].non_controls]
    gains = [gain([60 + 100 * rate + s for s in range(3)], [60, 61, 62]) for rate in (0.001, 0.01)]
    assert [c.estimate.mean for c in means if isinstance(c, Value)] == pytest.approx(gains)
