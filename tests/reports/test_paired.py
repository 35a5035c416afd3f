"""Two studies compared seed by seed: `ship-report A B --paired`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner, Result

from reports.cells import PValue, Text, Value
from reports.cli import app
from reports.errors import ReportError
from reports.render import format_csv, make_paired_files
from reports.report import PairedReport, make_paired_report
from tests.reports.builder import StoreBuilder, scores

N_CTX = "generator.n_ctx"
H = "harmonic_mean"
TAGS = {"dataset_fingerprint": "d1", "backbone_fingerprint": "b1", "split_version": "1"}


def values(h: float) -> dict[str, float]:
    """Metrics of a seed whose Base, New and H are the same."""
    return dict.fromkeys(("base", "new", H), h)


def factor(key: str, levels: Sequence[Any], baseline: Any) -> dict[str, Any]:
    """A factor as the study's run lists it."""
    return {"key": key, "levels": list(levels), "log": False, "baseline": baseline}


def study(
    name: str,
    results: Mapping[int, Mapping[int, float]],
    kl: str = "0.1",
    tags: Mapping[str, str] = TAGS,
    **fields: Any,
) -> StoreBuilder:
    """A study of n_ctx: H by level and seed, with a constant kl_weight."""
    constants = {"generator.kl_weight": kl, **fields.pop("constants", {})}
    seeds = sorted({seed for by_seed in results.values() for seed in by_seed})
    factors = [factor(N_CTX, [*results], next(iter(results)))]
    builder = StoreBuilder(name, factors, seeds, constants=constants, **fields)
    for level, by_seed in results.items():
        key = f"kl {kl}, n_ctx {level}"
        builder.trial({N_CTX: level}, {s: values(h) for s, h in by_seed.items()}, key=key, **tags)
    return builder


def planted(
    rng: np.random.Generator, shifts: Sequence[float], seeds: int = 8
) -> tuple[StoreBuilder, StoreBuilder]:
    """Two studies whose levels differ by known amounts; seeds add the same to both."""
    of_seed = rng.normal(0, 3, seeds)
    sides: list[dict[int, dict[int, float]]] = [{}, {}]
    for level, shift in enumerate(shifts, 1):
        for side, of_study in enumerate((0.0, shift)):
            h = 60 + of_study + of_seed + rng.normal(0, 0.5, seeds)
            sides[side][level] = dict(enumerate(h.tolist()))
    return study("first", sides[0]), study("second", sides[1], kl="1.0")


def compare(first: StoreBuilder, second: StoreBuilder, metric: str | None = None) -> PairedReport:
    """The comparison of two studies."""
    return make_paired_report(first.study(), second.study(), metric)


def fault(first: StoreBuilder, second: StoreBuilder) -> str:
    """Why two studies cannot be compared."""
    with pytest.raises(ReportError) as error:
        compare(first, second)
    return str(error.value)


def test_a_planted_effect_is_recovered_with_the_paired_tests_numbers() -> None:
    """Difference, interval and Holm p are those of scipy's paired t-test on common seeds."""
    first, second = planted(np.random.default_rng(0), (0.0, 3.0, -3.0, 1.0))
    (table,) = compare(first, second).tables
    expected = []
    for mine, theirs in zip(first.runs, second.runs, strict=True):
        a, b = (
            np.array([run.metrics[f"test/{H}/seed_{s}"] for s in range(8)])
            for run in (mine, theirs)
        )
        expected.append((b - a, stats.ttest_rel(b, a)))
    p = np.array([test.pvalue for _, test in expected])
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    for row, (difference, test), level in zip(table.rows, expected, range(1, 5), strict=True):
        cell, p_cell = row.cells[f"{H}_difference"], row.cells[f"{H}_p"]
        assert isinstance(cell, Value) and isinstance(p_cell, PValue)
        interval = test.confidence_interval(0.95)
        assert cell.estimate.mean == pytest.approx(difference.mean())
        assert (cell.estimate.low, cell.estimate.high) == pytest.approx(
            (interval.low, interval.high)
        )
        assert p_cell.p == pytest.approx(adjusted[list(order).index(level - 1)])
    words = [row.cells[f"{H}_verdict"] for row in table.rows]
    assert words == [Text("equivalent"), Text("higher"), Text("lower"), Text("inconclusive")]


def test_intervals_contain_the_planted_difference() -> None:
    """In about 95 of 100 pairs, and Holm's p finds differences of 0 rarely."""
    rng, covered, false = np.random.default_rng(1), 0, 0
    for _ in range(100):
        (table,) = compare(*planted(rng, (0.0, 0.8), seeds=5)).tables
        for row, truth in zip(table.rows, (0.0, 0.8), strict=True):
            estimate = row.comparison.difference if row.comparison else None
            assert estimate and estimate.low is not None and estimate.high is not None
            covered += estimate.low <= truth <= estimate.high
        null = table.rows[0].comparison
        false += bool(null and null.holm_p is not None and null.holm_p < 0.05)
    assert 0.90 <= covered / 200 <= 0.99
    assert false / 100 <= 0.1


def test_pairing_removes_what_seeds_share() -> None:
    """The seeds' common part of 3 points does not widen the interval."""
    (table,) = compare(*planted(np.random.default_rng(2), (2.5,))).tables
    cells = table.rows[0].cells
    mean, difference = cells[f"{H}_a"], cells[f"{H}_difference"]
    assert isinstance(mean, Value) and isinstance(difference, Value)
    halves = [e.mean - (e.low or 0) for e in (mean.estimate, difference.estimate)]
    assert halves[1] < halves[0] / 3


def test_only_common_seeds_enter() -> None:
    """Both means, the difference and n are over the seeds that finished in both studies."""
    first = study("a", {4: {0: 60.0, 1: 61.0, 2: 90.0}})
    second = study("b", {4: {0: 62.0, 1: 64.0, 7: 10.0}}, kl="1.0")
    (row,) = compare(first, second).tables[0].rows
    estimates = {k: c.estimate for k, c in row.cells.items() if isinstance(c, Value)}
    assert (estimates[f"{H}_a"].mean, estimates[f"{H}_b"].mean) == (
        pytest.approx(60.5),
        pytest.approx(63),
    )
    assert (estimates[f"{H}_difference"].mean, estimates[f"{H}_difference"].n) == (
        pytest.approx(2.5),
        2,
    )


def test_the_table_says_first_what_differs() -> None:
    """The options that differ, with their values, are its first note and the first finding."""
    report = compare(*planted(np.random.default_rng(0), (1.0,)))
    differences = (
        "A: first; B: second; options that differ: generator.kl_weight is 0.1 in A, 1.0 in B"
    )
    assert report.tables[0].notes[0] == differences
    assert report.answer.findings[0].text == f"{differences}."


def test_a_method_is_named_once_and_first() -> None:
    """Its name comes before its options, and `finetuner` does not repeat `finetuner.name`."""
    first, second = planted(np.random.default_rng(0), (1.0,))
    for builder, name in ((first, "coop"), (second, "ridge")):
        for run in builder.runs:
            run.params.update({"finetuner": name, "finetuner.name": name})
    differing = compare(first, second).paired.differing
    assert [*differing] == ["finetuner.name", "generator.kl_weight"]


def test_a_run_from_before_an_option_has_its_default() -> None:
    """`metrics` does not differ where one study lacks the option and the other names none."""
    first, second = planted(np.random.default_rng(0), (1.0,))
    for run in second.runs:
        run.params["metrics"] = "[]"
    assert [*compare(first, second).paired.differing] == ["generator.kl_weight"]
    for run in second.runs:
        run.params["metrics"] = '["share"]'
    assert compare(first, second).paired.differing["metrics"] == '[] in A, ["share"] in B'


def test_a_configuration_of_both_studies_is_unchanged_and_no_test() -> None:
    """Equal results get the word unchanged, no p, and do not count in Holm's correction."""
    rng = np.random.default_rng(3)
    by_seed = dict(enumerate(60 + rng.normal(0, 1, 5)))
    moved = {s: h + 2 + rng.normal(0, 0.1) for s, h in by_seed.items()}
    first = study("a", {4: by_seed, 8: by_seed})
    second = study("b", {4: by_seed, 8: moved})
    same, other = compare(first, second).tables[0].rows
    assert same.cells[f"{H}_verdict"] == Text("unchanged") and f"{H}_p" not in same.cells
    assert other.comparison and other.comparison.holm_p == pytest.approx(other.comparison.p)


def test_factors_of_one_study_are_at_their_baseline() -> None:
    """The other study's constant is compared with the baseline level only."""
    first = study("a", {4: {0: 60.0, 1: 61.0}, 8: {0: 50.0, 1: 51.5}})
    factors = [factor(N_CTX, [4, 8], 4), factor("finetuner.lr", [0.1, 0.2], 0.2)]
    second = StoreBuilder("b", factors, (0, 1), constants={"generator.kl_weight": "0.1"})
    for n_ctx in (4, 8):
        for lr in (0.1, 0.2):
            results = {s: values(60 + n_ctx + 100 * (lr == 0.1) + s * lr) for s in (0, 1)}
            second.trial({N_CTX: n_ctx, "finetuner.lr": lr}, results, **TAGS)
    (table,) = compare(first, second).tables
    assert [row.name for row in table.rows] == ["n_ctx 4", "n_ctx 8"]
    differences = [row.comparison.difference.mean for row in table.rows if row.comparison]
    assert differences == [pytest.approx(3.6), pytest.approx(17.35)]
    assert "only in B: 2 configurations" in table.notes
    assert "finetuner.lr is absent in A, 0.2 in B" in table.notes[0]


def test_without_a_common_factor_baselines_are_compared() -> None:
    """One row, named baseline."""
    first = study("a", {4: {0: 60.0, 1: 61.0}, 8: {0: 50.0, 1: 51.5}})
    second = StoreBuilder("b", [factor("finetuner.lr", [0.1, 0.2], 0.2)], (0, 1))
    for lr in (0.1, 0.2):
        results = {s: values(65 + s * lr) for s in (0, 1)}
        second.trial({"finetuner.lr": lr}, results, **TAGS)
    (row,) = compare(first, second).tables[0].rows
    assert row.name == "baseline" and row.comparison
    assert row.comparison.difference.mean == pytest.approx(4.6)


def test_controls_are_paired_and_tested_once() -> None:
    """A control of both studies has a row below; one with other baselines has none."""
    first, second = planted(np.random.default_rng(0), (1.0, 2.0))
    for builder in (first, second):
        results = {s: values(50.0 + s) for s in range(8)}
        builder.trial({}, results, control="zero_shot", key="zs", **TAGS)
    rows = compare(first, second).tables[0].rows
    assert [(row.control, row.section) for row in rows[2:]] == [("zero_shot", "controls")]
    assert rows[2].cells[f"{H}_verdict"] == Text("unchanged")
    second.factors = [factor(N_CTX, [1, 2], 2)]
    assert len(compare(first, second).tables[0].rows) == 2


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"dataset_fingerprint": "d2"}, "dataset is emoji (fingerprint d1) in A and emoji (fing"),
        ({"dataset_fingerprint": ""}, "dataset is emoji (fingerprint d1) in A and unknown in B"),
        ({"backbone_fingerprint": "b2"}, "backbone is pocket (fingerprint b1) in A and pocket (f"),
        ({"split_version": "2"}, "split version is 1 in A and 2 in B"),
        ({"results_version": "2"}, "results version is 1 in A and 2 in B"),
    ],
)
def test_other_data_backbone_or_version_is_refused(
    changed: Mapping[str, str], expected: str
) -> None:
    """Each in one line that names both values."""
    results = {4: {0: 60.0, 1: 61.0}}
    message = fault(study("a", results), study("b", results, tags={**TAGS, **changed}))
    assert message.startswith("cannot pair a (A) with b (B): ") and expected in message


def test_a_dataset_without_a_split_version_can_be_paired() -> None:
    """Its tag is empty in both studies."""
    first, second = planted(np.random.default_rng(0), (1.0,))
    for run in (*first.runs, *second.runs):
        run.tags["ship.split_version"] = ""
    assert compare(first, second).tables[0].rows[0].comparison


def test_all_faults_are_in_one_line() -> None:
    """Protocol, shots, classes, levels and seeds at once."""
    first = study("a", {4: {0: 60.0, 1: 61.0}})
    constants = {"shots": "4", "max_classes": "20"}
    second = study("b", {4: {1: 60.0, 2: 61.0}}, protocol="few_shot", constants=constants)
    for run in second.runs:
        run.metrics.update({f"test/accuracy/seed_{s}": 60.0 for s in (1, 2)})
    message = fault(first, second)
    assert "protocol is base_to_new in A and few_shot in B" in message
    assert "shots is 16 in A and 4 in B" in message
    assert "max_classes is null in A and 20 in B" in message
    assert "at least 2 common seeds are needed, got 1 (finished seeds: 0 and 1 in A" in message
    assert "no configuration of A has the same levels in B" in fault(
        first, study("b", {5: {0: 60.0, 1: 61.0}, 6: {0: 60.0, 1: 62.0}})
    )
    assert "\n" not in message


def test_shots_as_a_factor_of_both_studies_are_paired_by_level() -> None:
    """Equal levels draw the same images."""
    builders = [
        StoreBuilder(name, [factor("shots", [1, 4], 4)], (0, 1)) for name in ("first", "second")
    ]
    for place, builder in enumerate(builders):
        for shots in (1, 4):
            results = {s: values(60 + shots + s * (1 + place)) for s in (0, 1)}
            builder.trial({"shots": shots}, results, key=f"{place}{shots}", **TAGS)
    assert len(compare(*builders).tables[0].rows) == 2


def test_a_saturated_study_gets_no_verdict() -> None:
    """The answer says why, and the column of verdicts is empty."""
    first, second = planted(np.random.default_rng(0), (5.0,))
    for run in second.runs:
        run.metrics.update({f"test/flag/saturated/seed_{s}": 1.0 for s in range(8)})
    report = compare(first, second)
    assert report.answer.limits[0].text.startswith("B: in 8 of 8 trials at least half")
    assert report.answer.findings[1].verdict is None
    assert "No verdict: selection is saturated." in report.answer.findings[1].text
    assert f"{H}_verdict" not in report.tables[0].rows[0].cells


def test_a_far_result_is_a_caution() -> None:
    """A seed that one study lost and the other did not is named."""
    first, second = planted(np.random.default_rng(0), (0.0, 0.0, 0.0))
    second.runs[1].metrics[f"test/{H}/seed_3"] -= 20
    cautions = compare(first, second).answer.cautions
    assert any("H of study B, n_ctx 2 under seed 3 is far from what the" in c for c in cautions)


def test_other_metrics_have_their_own_family() -> None:
    """Base may be unchanged while New is higher; --metric puts its metric first."""
    first, second = planted(np.random.default_rng(0), (0.0,))
    for builder, new in ((first, 60.0), (second, 63.0)):
        for seed in range(8):
            (run,) = builder.runs
            run.metrics.update(
                {
                    f"test/{name}/seed_{seed}": value
                    for name, value in scores(new + seed + 0.1 * (seed % 2) * new / 60).items()
                }
            )
    report = compare(first, second, "new")
    assert [finding.verdict for finding in report.answer.findings[1:]] == ["higher", None, "higher"]
    row = report.tables[0].rows[0]
    assert row.cells["base_verdict"] == Text("unchanged")
    assert report.tables[0].columns[2].heading == "New of A"


def over_two_datasets(name: str, new: float, kl: str) -> StoreBuilder:
    """A study of two methods on two datasets; New differs between datasets and seeds."""
    factors = [factor("dataset", ["emoji", "dtd"], "emoji"), factor("shots", [4, 16], 4)]
    builder = StoreBuilder(name, factors, (0, 1, 2))
    for place, dataset in enumerate(("emoji", "dtd")):
        for shots in (4, 16):
            results = {
                s: scores(new + 20 * place + s * (1 + 0.1 * place * new), 70) for s in (0, 1, 2)
            }
            assignment = {"dataset": dataset, "shots": shots}
            tags = {**TAGS, "dataset_fingerprint": dataset}
            builder.trial(assignment, results, key=f"{kl} {dataset} {shots}", **tags)
    return builder


def test_averages_over_datasets_are_compared_first() -> None:
    """H of an average is that of the averaged accuracies; each dataset has rows of its own."""
    first, second = over_two_datasets("a", 50.0, "0.1"), over_two_datasets("b", 53.0, "1.0")
    report = compare(first, second)
    average, table = report.tables
    assert (average.name, table.name) == ("paired-average", "paired")
    assert [row.name for row in average.rows] == ["shots 4", "shots 16"]
    assert len(table.rows) == 4 and "average over 2 datasets" in average.title
    expected = []
    for s in (0, 1, 2):
        news = [np.mean([n + s, n + 20 + s * (1 + 0.1 * n)]) for n in (50.0, 53.0)]
        a, b = (2 * 70 * new / (70 + new) for new in news)
        expected.append(b - a)
    compared = average.rows[0].comparison
    assert compared and compared.difference.mean == pytest.approx(np.mean(expected))
    subjects = [finding.subject for finding in report.answer.findings]
    assert subjects[1] == "H, B compared with A (average over 2 datasets)"
    assert subjects[4] == "H, B compared with A"
    assert not any("same configuration" in note for note in average.notes)


def invoke(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})


def test_the_command_prints_and_writes_all_formats(store_uri: str, tmp_path: Path) -> None:
    """Terminal, page, Markdown, LaTeX and CSV; the CSV has full precision."""
    first, second = planted(np.random.default_rng(0), (2.0, 0.0))
    for builder in (first, second):
        builder.write(store_uri)
    where = ("--tracking-uri", store_uri)
    done = invoke("first", "second", "--paired", *where, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "second compared with first: B − A, paired by seed" in done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "first-second.txt", "first-second.md", "first-second.tex", "first-second.html",
        "first-second-paired.csv",
    }  # fmt: skip
    page = (tmp_path / "out" / "first-second.html").read_text("utf-8")
    assert "<h1>second compared with first</h1>" in page and "options that differ" in page
    for form, start in (("csv", "table,n_ctx,n,"), ("latex", "% needs"), ("markdown", "### ")):
        printed = invoke("first", "second", "--paired", *where, "--format", form)
        assert printed.exit_code == 0 and printed.output.startswith(start)
    refused = invoke("second", "first", "--paired", *where, "--metric", "nothing")
    assert refused.exit_code == 2 and "no test metric 'nothing'; choices: " in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a", "--paired"], "--paired needs the names of two different studies, got a"),
        (["a", "a", "--paired"], "--paired needs the names of two different studies, got a a"),
        (["--all", "--paired"], "--paired needs the names of two different studies, got --all"),
        (["a", "b", "--paired", "--figures"], "--paired cannot be combined with --figures"),
    ],
)
def test_mistakes_in_the_command(arguments: list[str], expected: str) -> None:
    """One line and exit code 2, before a store is read."""
    done = invoke(*arguments)
    assert done.exit_code == 2 and done.stderr.startswith(expected)


def test_studies_that_cannot_be_paired_end_with_2(store_uri: str) -> None:
    """One line, nothing on stdout."""
    results = {4: {0: 60.0, 1: 61.0}}
    study("a", results).write(store_uri)
    study("b", results, tags={**TAGS, "dataset_fingerprint": "d2"}).write(store_uri)
    done = invoke("a", "b", "--paired", "--tracking-uri", store_uri)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_names_of_a_store_are_text_on_the_page() -> None:
    """A study's name is untrusted input."""
    first, second = planted(np.random.default_rng(0), (2.0,))
    first.name = "<b>\x1b[31m"
    files = make_paired_files(compare(first, second))
    (page,) = (data.decode() for name, data in files.items() if name.endswith(".html"))
    assert "<b>" not in page and "\x1b" not in page
    assert all("/" not in name and "<" not in name for name in files)
    assert format_csv(compare(first, second).tables[0])
