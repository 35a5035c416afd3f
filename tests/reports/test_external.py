"""Results from a CSV file in a study's tables: `ship-report STUDY --external FILE.csv`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner, Result

from reports.cells import EXTERNAL, Row, Value
from reports.cli import app
from reports.errors import ReportError, ReportFaults
from reports.estimates_frame import make_estimates_frame
from reports.render import format_csv, report_files
from reports.report import Report, make_report
from reports.study import Study
from reports.tables import with_external
from reports.tables.external_file import MAX_ROWS
from tests.reports.builder import prompt_len
from tests.reports.studies import over_datasets

H = "harmonic_mean"


def read(study: Study, tmp_path: Path, text: str) -> Study:
    """The study with the results of a file of this text."""
    path = tmp_path / "ours.csv"
    path.write_text(text, encoding="utf-8")
    return with_external(study, path)


def faults(tmp_path: Path, text: str) -> Sequence[str]:
    """The lines that refuse a file of this text."""
    with pytest.raises(ReportFaults) as error:
        read(prompt_len().study(), tmp_path, text)
    return error.value.lines


def csv_of(values: dict[str, dict[int, float]]) -> str:
    """A file of H by configuration and seed."""
    rows = [f"{name},{s},{h}" for name, by_seed in values.items() for s, h in by_seed.items()]
    return "\n".join(["configuration,seed,H", *rows])


def external_rows(report: Report) -> dict[str, Row]:
    """The external rows of a report's first table by label."""
    return {row.name: row for row in report.tables[0].rows if row.control == EXTERNAL}


def baseline_h(study: Study) -> dict[int, float]:
    """H of the baseline by seed."""
    rows = study.rows.filter(study.rows["generator.n_ctx"] == 4, study.rows["control"] == "")
    return dict(zip(rows["seed"].to_list(), rows[f"test/{H}"].to_list(), strict=True))


def test_a_planted_effect_is_recovered_where_seeds_agree(tmp_path: Path) -> None:
    """Difference, interval and p are those of scipy's paired t-test; Holm's is over the table."""
    study, rng = prompt_len().study(), np.random.default_rng(0)
    base = baseline_h(study)
    values = {
        name: {s: round(h + shift + rng.normal(0, 0.3), 4) for s, h in base.items()}
        for name, shift in (("better", 4.0), ("worse", -4.0), ("the same", 0.0))
    }
    report = make_report(read(study, tmp_path, csv_of(values)))
    rows = external_rows(report)
    for name, verdict in (("better", "higher"), ("worse", "lower"), ("the same", "equivalent")):
        compared = rows[f"{name} ‡"].comparison
        assert compared and compared.verdict == verdict
        test = stats.ttest_rel([*values[name].values()], [*base.values()])
        interval = test.confidence_interval(0.95)
        estimate = compared.difference
        assert (estimate.low, estimate.high) == pytest.approx((interval.low, interval.high))
        assert compared.p == pytest.approx(test.pvalue)
    family = [row.comparison for row in report.tables[0].rows if row.comparison]
    p = sorted(c.p for c in family if c.p is not None)
    smallest = min(family, key=lambda c: c.p or 1.0)
    assert len(family) == 4 + 4 + 3 and smallest.holm_p == pytest.approx(len(p) * p[0])
    (finding,) = (f for f in report.answer.findings if f.subject.startswith("external results"))
    assert finding.subject == "external results of ours.csv" and finding.verdict == "higher"
    assert "H is higher for better ‡ (+" in finding.text and "were not checked" in finding.text


def test_other_seeds_give_a_mean_and_no_comparison(tmp_path: Path) -> None:
    """With one common seed or none there is an interval with n, and no difference."""
    values = {"far": {10: 60.0, 11: 62.0, 12: 64.0}, "near": {0: 60.0, 12: 62.0}}
    report = make_report(read(prompt_len().study(), tmp_path, csv_of(values)))
    rows = external_rows(report)
    for name, n, mean in (("far ‡", 3, 62.0), ("near ‡", 2, 61.0)):
        cell = rows[name].cells[H]
        assert isinstance(cell, Value) and (cell.estimate.n, cell.estimate.mean) == (n, mean)
        assert cell.estimate.low is not None
        assert rows[name].comparison is None and "difference" not in rows[name].cells
    text = report.answer.findings[-1].text
    assert text.startswith("Not compared: far ‡ (62.0 ± ") and "n 3) and near ‡ (61.0" in text


def test_the_rest_of_the_report_is_that_of_the_study(tmp_path: Path) -> None:
    """Means, levels and other tables do not change; only Holm's correction counts more tests."""
    study = prompt_len().study()
    plain = make_report(study)
    more = make_report(read(study, tmp_path, csv_of({"x": {0: 60.0, 1: 61.0, 2: 63.0}})))
    assert [t.name for t in plain.tables] == [t.name for t in more.tables]
    for before, after in zip(plain.tables[0].rows, more.tables[0].rows, strict=False):
        assert before.cells[H] == after.cells[H] and before.name == after.name
    assert plain.tables[1:] == more.tables[1:]
    assert plain.stamp != more.stamp


def test_rows_are_marked_in_every_format(tmp_path: Path) -> None:
    """A mark and a footnote; in CSV files the columns section and control say external."""
    study = read(prompt_len().study(), tmp_path, csv_of({"fork": {0: 60.0, 1: 61.0}}))
    report = make_report(study)
    files = {name: data.decode() for name, data in report_files(report).items() if "." in name
             and name.rpartition(".")[2] in ("md", "tex", "txt", "html")}  # fmt: skip
    for name, text in files.items():
        mark = r"fork $^\ddagger$" if name.endswith("tex") else "fork ‡"
        assert mark in text and "external results of ours.csv" in text, name
    assert "--external ours.csv</code>" in files["prompt_len.html"]
    (line,) = (line for line in format_csv(report.tables[0]).splitlines() if "fork" in line)
    assert line.startswith("fork,2,") and ",external,false,external," in line
    frame = make_estimates_frame(report.all_tables)
    fork = frame.filter(kind="external", metric=H)
    assert fork["row"].to_list() == ["fork ‡"] and fork["pairs"].to_list() == [2]


def test_h_is_computed_where_it_is_absent(tmp_path: Path) -> None:
    """From base and new; a rounded H that agrees with them is used as it is."""
    text = "Configuration,seed,Base,NEW\na,0,70.0,60\na,1,71.5,61.25\n"
    study = read(prompt_len().study(), tmp_path, text)
    assert study.external.values[""]["a"][1][H] == pytest.approx(2 * 71.5 * 61.25 / (71.5 + 61.25))
    rounded = "configuration,seed,base,new,H\na,0,69.96,60.04,64.6\na,1,0,0,0\n"
    assert read(study, tmp_path, rounded).external.values[""]["a"][0][H] == 64.6


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a,0,70,60,66.0", "line 2, column harmonic_mean: 66.0 contradicts base 70 and new 60"),
        ("a,0,7O,60,64", "line 2, column base: must be a percentage from 0 to 100, got '7O'"),
        ("a,0,70,160,64", "line 2, column new: must be a percentage from 0 to 100, got '160'"),
        ("a,0,nan,60,64", "line 2, column base: must be a percentage from 0 to 100, got 'nan'"),
        ("a,0,-3,60,64", "line 2, column base: must be a percentage from 0 to 100, got '-3'"),
        ("a,0,,60,64", "line 2, column base: must be a percentage from 0 to 100, got ''"),
        ("a,1.5,70,60,64.6", "column seed: must be a whole number of at most 9 digits, got '1.5'"),
        ("a,1234567890,70,60,64.6", "a whole number of at most 9 digits, got '1234567890'"),
        (",0,70,60,64.6", "line 2, column configuration: is empty"),
        ("a,0,70,60", "line 2: 4 cells, but the header has 5 columns"),
        ("a,0,.7,.6,.646", ": percentages from 0 to 100 are needed, but the largest number is 0.7"),
    ],
)  # fmt: skip
def test_a_fault_names_file_line_column_and_value(line: str, expected: str, tmp_path: Path) -> None:
    """One line per fault."""
    (fault,) = faults(tmp_path, f"configuration,seed,base,new,H\n{line}\n")
    assert fault.startswith(("ours.csv, line", "ours.csv: ")) and expected in fault


def test_blank_lines_do_not_count(tmp_path: Path) -> None:
    """All results are read, however many blank lines are between them."""
    lines = [f"a,{seed},70,60" for seed in range(100)]
    text = "configuration,seed,base,new\n" + ("\n" * (MAX_ROWS // 50)).join(lines)
    study = read(prompt_len().study(), tmp_path, text)
    assert len(study.external.values[""]["a"]) == 100


def test_faults_of_the_header_name_its_line(tmp_path: Path) -> None:
    """Blank lines above the header count as lines of the file."""
    (fault,) = faults(tmp_path, "\n\nconfiguration,seed,bas,H\na,0,1,60\n")
    assert fault.startswith("ours.csv, line 3: unknown column 'bas'")


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    """Those of the header with the choices, and those of every line."""
    text = "configuration,seed,bas,H,H\na,0,1,60,60\na,0,1,60,60\nb,x,1,60,60\n"
    first, second, third, fourth = faults(tmp_path, text)
    assert "line 1: unknown column 'bas' (did you mean base? choices: configuration, seed" in first
    assert second.endswith("line 1: two columns are harmonic_mean")
    assert third.endswith("line 3: a second result of 'a' under seed 0") and "line 4" in fourth
    lacking = faults(tmp_path, "base\n70\n")
    assert [line.partition(": ")[2] for line in lacking] == [
        "no column configuration", "no column seed",
        "no column harmonic_mean, nor both base and new",
    ]  # fmt: skip
    many = faults(tmp_path, "configuration,seed,H\n" + "a,x,1000\n" * 30)
    assert len(many) == 21 and many[-1] == "ours.csv: 40 more faults"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe1", "not a CSV file in UTF-8"),
        (b'configuration,seed,H\n"a,0,6', "not a CSV file in UTF-8"),
        (b"configuration,seed,H\n", "no results; a header and a line per result are needed"),
        (b"", "no results"),
        (b"x" * 10_000_001, "larger than 10 MB"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(content: bytes, expected: str, tmp_path: Path) -> None:
    """Damaged, empty or too large."""
    path = tmp_path / "ours.csv"
    path.write_bytes(content)
    with pytest.raises(ReportError, match=expected):
        with_external(prompt_len().study(), path)


def halves_csv(values: dict[tuple[str, int], tuple[float, float]], name: str = "fork") -> str:
    """A file of base and new by dataset and seed."""
    rows = [f"{name},{d},{s},{base},{new}" for (d, s), (base, new) in values.items()]
    return "\n".join(["configuration,dataset,seed,base,new", *rows])


def halves_of_baseline(study: Study) -> dict[tuple[str, int], tuple[float, float]]:
    """Base and new of the baseline by dataset and seed."""
    rows = study.rows.filter(study.rows["generator"] == "none", study.rows["control"] == "")
    return {
        (row["dataset"], row["seed"]): (row["test/base"], row["test/new"])
        for row in rows.iter_rows(named=True)
    }


def h_of(halves: Sequence[tuple[float, float]]) -> float:
    """The harmonic mean of mean halves."""
    base, new = np.mean([h[0] for h in halves]), np.mean([h[1] for h in halves])
    return float(2 * base * new / (base + new))


@pytest.mark.parametrize("names", [("emoji", "caltech101", "dtd"), ("emoji", "dtd")])
def test_over_datasets_averages_are_compared(names: Sequence[str], tmp_path: Path) -> None:
    """A row averages over the datasets of the file, and is compared with the baseline on those."""
    study, rng = over_datasets().study(), np.random.default_rng(0)
    baseline = {key: h for key, h in halves_of_baseline(study).items() if key[0] in names}
    values = {
        key: (round(base + rng.normal(3, 0.3), 3), round(new + rng.normal(3, 0.3), 3))
        for key, (base, new) in baseline.items()
    }
    report = make_report(read(study, tmp_path, halves_csv(values)))
    seeds = sorted({seed for _, seed in baseline})
    means = [
        [h_of([source[name, seed] for name in names]) for seed in seeds]
        for source in (values, baseline)
    ]
    row = external_rows(report)["fork ‡"]
    average = row.cells[f"average/{H}"]
    assert isinstance(average, Value)
    assert average.estimate.mean == pytest.approx(np.mean(means[0]))
    assert average.suffix == ("" if len(names) == 3 else "(2/3)")
    assert row.comparison and row.comparison.verdict == "higher"
    assert row.comparison.p == pytest.approx(stats.ttest_rel(*means).pvalue)
    assert row.comparison.difference.mean == pytest.approx(np.mean(means[0]) - np.mean(means[1]))
    (finding,) = (f for f in report.answer.findings if f.subject.startswith("external results"))
    assert finding.subject == "external results of ours.csv, averaged over datasets"
    assert finding.verdict == "higher"
    for name in ("emoji", "caltech101", "dtd"):
        (table,) = (table for table in report.all_tables if table.name.startswith(f"{name}-"))
        labels = [row.name for row in table.rows if row.control == EXTERNAL]
        assert labels == (["fork ‡"] if name in names else [])
        assert any("were not checked" in note for note in table.notes) == (name in names)


def test_the_only_factor_may_be_the_dataset(tmp_path: Path) -> None:
    """Then there is no baseline, and an external row is shown without a comparison."""
    builder = over_datasets(generators=("none",))
    builder.factors = builder.factors[:1]
    values = {(name, seed): (80.0, 60.0 + seed) for name in ("emoji", "dtd") for seed in range(3)}
    report = make_report(read(builder.study(), tmp_path, halves_csv(values)))
    row = external_rows(report)["fork ‡"]
    assert row.comparison is None and isinstance(row.cells[f"average/{H}"], Value)
    assert report.answer.findings[-1].text.startswith("Not compared: fork ‡ (6")


def test_a_file_over_datasets_names_the_datasets_of_the_study(tmp_path: Path) -> None:
    """Faults: another dataset, a second result, no half, and no column of datasets."""
    study = over_datasets().study()

    def refused(text: str) -> Sequence[str]:
        with pytest.raises(ReportFaults) as error:
            read(study, tmp_path, text)
        return error.value.lines

    lines = "a,dtd,0,70,60\na,dtd,0,70,60\na,food,0,70,60"
    first, second = refused(f"configuration,dataset,seed,base,new\n{lines}")
    assert first.endswith("line 3: a second result of 'a' under seed 0 on dtd")
    assert second.endswith(
        "line 4, column dataset: must be one of the study's, got 'food'"
        " (choices: emoji, caltech101, dtd)"
    )
    first, second = refused("configuration,seed,H,base\na,0,60,60")
    assert first.endswith("line 1: no column dataset")
    assert second.endswith("line 1: no column new, which the average over datasets needs")


def test_other_test_classes_are_refused(tmp_path: Path) -> None:
    """Levels of some factors are tested on other classes, which a file does not name."""
    study = prompt_len().study()
    factor = replace(study.factors[0], key="targets")
    with pytest.raises(ReportError, match="one set of classes per dataset, got the factor targets"):
        with_external(replace(study, factors=(factor,)), tmp_path / "none.csv")


def test_a_saturated_study_gives_no_verdict_on_external_results(tmp_path: Path) -> None:
    """As for its levels."""
    builder = prompt_len()
    for run in builder.runs:
        run.metrics.update({f"test/flag/saturated/seed_{s}": 1.0 for s in range(5)})
    study = read(builder.study(), tmp_path, csv_of({"x": {0: 10.0, 1: 11.0, 2: 13.0}}))
    finding = make_report(study).answer.findings[-1]
    assert finding.verdict is None and finding.text.startswith("No verdict: selection is saturat")


_CELLS = st.one_of(
    st.sampled_from(["a", "0", "1", "70.5", "101", "-1", "nan", "", "=x", "9" * 30, ".5", "1e3"]),
    st.text(max_size=5),
)
_LINES = st.lists(st.lists(_CELLS, min_size=3, max_size=5).map(",".join), max_size=6)


@given(lines=_LINES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_files_are_results_or_faults(lines: list[str], tmp_path: Path) -> None:
    """Any content gives percentages of whole seeds, or an error of the reports."""
    study = prompt_len().study()
    try:
        read_study = read(study, tmp_path, "\n".join(["configuration,seed,H", *lines]))
    except ReportError:
        return
    for by_seed in read_study.external.values.get("", {}).values():
        for seed, metrics in by_seed.items():
            assert seed >= 0 and all(0 <= value <= 100 for value in metrics.values())


def invoke(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})


def test_the_command_shows_the_rows_and_writes_nothing_to_the_store(
    store_uri: str, tmp_path: Path
) -> None:
    """The bytes of the store are the same before and after; faults end with 2."""
    prompt_len().write(store_uri)
    store = Path(store_uri.removeprefix("sqlite:///"))
    before, path = store.read_bytes(), tmp_path / "ours.csv"
    path.write_text(csv_of({"fork": {0: 60.0, 1: 61.0}}))
    where = ("--tracking-uri", store_uri, "--format", "terminal")
    done = invoke("prompt_len", "--external", path, *where)
    assert done.exit_code == 0 and " fork ‡ " in done.output, done.output
    assert store.read_bytes() == before
    path.write_text("configuration,seed,H\na,0,6O\na,1,101\n")
    refused = invoke("prompt_len", "--external", path, *where)
    assert (refused.exit_code, refused.stdout, len(refused.stderr.splitlines())) == (2, "", 2)
    several = invoke("a", "b", "--external", path)
    assert several.exit_code == 2 and "accepts only" in several.stderr


def test_labels_are_untrusted_input(tmp_path: Path) -> None:
    """Markup, formulas and control characters stay text."""
    study = read(prompt_len().study(), tmp_path, csv_of({"=<b>\x1b[31m": {0: 60.0, 1: 61.0}}))
    report = make_report(replace(study, name="s"))
    page = report_files(report)["s.html"].decode()
    assert "<b>" not in page and "\x1b" not in page
    assert "\n'=<b>" in format_csv(report.tables[0])
