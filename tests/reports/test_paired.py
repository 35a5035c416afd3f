"""Comparison of two studies seed by seed: `ship-report A B --paired`."""

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
from tests.reports.builder import StoreBuilder, make_scores

N_CTX = "generator.n_ctx"
H = "harmonic_mean"
TAGS = {"dataset_fingerprint": "d1", "backbone_fingerprint": "b1", "split_version": "1"}


def make_values(h: float) -> dict[str, float]:
    """Return the metrics of a seed whose Base, New and H are equal."""
    return dict.fromkeys(("base", "new", H), h)


def make_factor(key: str, levels: Sequence[Any], baseline: Any) -> dict[str, Any]:
    """Return a factor as the study's run lists it."""
    return {"key": key, "levels": list(levels), "log": False, "baseline": baseline}


def make_study_builder(
    name: str,
    results: Mapping[int, Mapping[int, float]],
    kl: str = "0.1",
    tags: Mapping[str, str] = TAGS,
    **fields: Any,
) -> StoreBuilder:
    """Build a study of n_ctx with a constant kl_weight.

    Args:
        name: Name of the study.
        results: H by level and seed. The first level is the baseline.
        kl: Value of kl_weight.
        tags: Tags of all runs.
        fields: Fields of StoreBuilder.
    """
    constants = {"generator.kl_weight": kl, **fields.pop("constants", {})}
    seeds = sorted({seed for by_seed in results.values() for seed in by_seed})
    factors = [make_factor(N_CTX, [*results], next(iter(results)))]
    builder = StoreBuilder(name, factors, seeds, constants=constants, **fields)
    for level, by_seed in results.items():
        key = f"kl {kl}, n_ctx {level}"
        builder.add_run(
            {N_CTX: level}, {s: make_values(h) for s, h in by_seed.items()}, key=key, **tags
        )
    return builder


def make_planted_pair(
    rng: np.random.Generator, shifts: Sequence[float], seeds: int = 8
) -> tuple[StoreBuilder, StoreBuilder]:
    """Build two studies with known differences per level, and equal effects of seeds.

    Args:
        rng: Generator of the effects of seeds and of the noise.
        shifts: Difference in H between the second and the first study at each level.
        seeds: Number of seeds.
    """
    seed_effects = rng.normal(0, 3, seeds)
    first: dict[int, dict[int, float]] = {}
    second: dict[int, dict[int, float]] = {}
    for level, shift in enumerate(shifts, 1):
        for results, study_effect in ((first, 0.0), (second, shift)):
            h = 60 + study_effect + seed_effects + rng.normal(0, 0.5, seeds)
            results[level] = dict(enumerate(h.tolist()))
    return make_study_builder("first", first), make_study_builder("second", second, kl="1.0")


def make_comparison(
    first: StoreBuilder, second: StoreBuilder, metric: str | None = None
) -> PairedReport:
    """Compare two studies."""
    return make_paired_report(first.make_study(), second.make_study(), metric)


def find_fault(first: StoreBuilder, second: StoreBuilder) -> str:
    """Return the error message for two studies that cannot be compared."""
    with pytest.raises(ReportError) as error:
        make_comparison(first, second)
    return str(error.value)


def test_differences_equal_those_of_a_paired_t_test() -> None:
    """Differences, intervals and Holm p are those of SciPy's test over common seeds."""
    first, second = make_planted_pair(np.random.default_rng(0), (0.0, 3.0, -3.0, 1.0))
    (table,) = make_comparison(first, second).tables
    expected = []
    for runs in zip(first.runs, second.runs, strict=True):
        a, b = (np.array([run.metrics[f"test/{H}/seed_{s}"] for s in range(8)]) for run in runs)
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
    verdicts = [row.cells[f"{H}_verdict"] for row in table.rows]
    assert verdicts == [Text("equivalent"), Text("higher"), Text("lower"), Text("inconclusive")]


def test_intervals_contain_the_true_difference() -> None:
    """About 95% of intervals contain it, and at most 10% of zero differences are significant."""
    rng, n_covered, n_false = np.random.default_rng(1), 0, 0
    for _ in range(100):
        (table,) = make_comparison(*make_planted_pair(rng, (0.0, 0.8), seeds=5)).tables
        for row, truth in zip(table.rows, (0.0, 0.8), strict=True):
            estimate = row.comparison.difference if row.comparison else None
            assert estimate and estimate.low is not None and estimate.high is not None
            n_covered += estimate.low <= truth <= estimate.high
        null = table.rows[0].comparison
        n_false += bool(null and null.holm_p is not None and null.holm_p < 0.05)
    assert 0.90 <= n_covered / 200 <= 0.99
    assert n_false / 100 <= 0.1


def test_pairing_removes_common_effects_of_seeds() -> None:
    """Effects of seeds with a standard deviation of 3 points do not widen the interval."""
    (table,) = make_comparison(*make_planted_pair(np.random.default_rng(2), (2.5,))).tables
    cells = table.rows[0].cells
    mean, difference = cells[f"{H}_a"], cells[f"{H}_difference"]
    assert isinstance(mean, Value) and isinstance(difference, Value)
    half_of_mean, half_of_difference = (
        estimate.mean - (estimate.low or 0) for estimate in (mean.estimate, difference.estimate)
    )
    assert half_of_difference < half_of_mean / 3


def test_only_common_seeds_are_compared() -> None:
    """Both means, the difference and n are over the seeds that finished in both studies."""
    first = make_study_builder("a", {4: {0: 60.0, 1: 61.0, 2: 90.0}})
    second = make_study_builder("b", {4: {0: 62.0, 1: 64.0, 7: 10.0}}, kl="1.0")
    (row,) = make_comparison(first, second).tables[0].rows
    estimates = {key: cell.estimate for key, cell in row.cells.items() if isinstance(cell, Value)}
    assert estimates[f"{H}_a"].mean == pytest.approx(60.5)
    assert estimates[f"{H}_b"].mean == pytest.approx(63)
    assert estimates[f"{H}_difference"].mean == pytest.approx(2.5)
    assert estimates[f"{H}_difference"].n == 2


def test_the_first_note_and_the_first_finding_list_the_options_that_differ() -> None:
    """The list has the values of both studies."""
    report = make_comparison(*make_planted_pair(np.random.default_rng(0), (1.0,)))
    differences = (
        "A: first; B: second; options that differ: generator.kl_weight is 0.1 in A, 1.0 in B"
    )
    assert report.tables[0].notes[0] == differences
    assert report.answer.findings[0].text == f"{differences}."


def test_a_method_is_named_once_and_first() -> None:
    """Its name comes before its options, and `finetuner` does not repeat `finetuner.name`."""
    first, second = make_planted_pair(np.random.default_rng(0), (1.0,))
    for builder, name in ((first, "coop"), (second, "ridge")):
        for run in builder.runs:
            run.params.update({"finetuner": name, "finetuner.name": name})
    differing = make_comparison(first, second).paired.differing
    assert [*differing] == ["finetuner.name", "generator.kl_weight"]


def test_an_option_that_an_earlier_version_lacked_has_its_default() -> None:
    """`metrics` does not differ if one study lacks the option and the other's list is empty."""
    first, second = make_planted_pair(np.random.default_rng(0), (1.0,))
    for run in second.runs:
        run.params["metrics"] = "[]"
    assert [*make_comparison(first, second).paired.differing] == ["generator.kl_weight"]
    for run in second.runs:
        run.params["metrics"] = '["share"]'
    assert make_comparison(first, second).paired.differing["metrics"] == '[] in A, ["share"] in B'


def test_equal_results_are_unchanged_and_have_no_p() -> None:
    """Equal results do not count in Holm's correction, either."""
    rng = np.random.default_rng(3)
    by_seed = dict(enumerate(60 + rng.normal(0, 1, 5)))
    shifted = {s: h + 2 + rng.normal(0, 0.1) for s, h in by_seed.items()}
    first = make_study_builder("a", {4: by_seed, 8: by_seed})
    second = make_study_builder("b", {4: by_seed, 8: shifted})
    unchanged, changed = make_comparison(first, second).tables[0].rows
    assert unchanged.cells[f"{H}_verdict"] == Text("unchanged")
    assert f"{H}_p" not in unchanged.cells
    assert changed.comparison and changed.comparison.holm_p == pytest.approx(changed.comparison.p)


def test_factors_of_one_study_are_at_their_baseline() -> None:
    """The study without the factor is compared with the baseline level of the other one."""
    first = make_study_builder("a", {4: {0: 60.0, 1: 61.0}, 8: {0: 50.0, 1: 51.5}})
    factors = [make_factor(N_CTX, [4, 8], 4), make_factor("finetuner.lr", [0.1, 0.2], 0.2)]
    second = StoreBuilder("b", factors, (0, 1), constants={"generator.kl_weight": "0.1"})
    for n_ctx in (4, 8):
        for lr in (0.1, 0.2):
            results = {s: make_values(60 + n_ctx + 100 * (lr == 0.1) + s * lr) for s in (0, 1)}
            second.add_run({N_CTX: n_ctx, "finetuner.lr": lr}, results, **TAGS)
    (table,) = make_comparison(first, second).tables
    assert [row.name for row in table.rows] == ["n_ctx 4", "n_ctx 8"]
    differences = [row.comparison.difference.mean for row in table.rows if row.comparison]
    assert differences == [pytest.approx(3.6), pytest.approx(17.35)]
    assert "only in B: 2 configurations" in table.notes
    assert "finetuner.lr is absent in A, 0.2 in B" in table.notes[0]


def test_without_a_common_factor_baselines_are_compared() -> None:
    """The table has one row, which is named baseline."""
    first = make_study_builder("a", {4: {0: 60.0, 1: 61.0}, 8: {0: 50.0, 1: 51.5}})
    second = StoreBuilder("b", [make_factor("finetuner.lr", [0.1, 0.2], 0.2)], (0, 1))
    for lr in (0.1, 0.2):
        results = {s: make_values(65 + s * lr) for s in (0, 1)}
        second.add_run({"finetuner.lr": lr}, results, **TAGS)
    (row,) = make_comparison(first, second).tables[0].rows
    assert row.name == "baseline" and row.comparison
    assert row.comparison.difference.mean == pytest.approx(4.6)


def test_controls_are_paired_and_tested_once() -> None:
    """Common controls have rows below the levels, unless the baselines of the studies differ."""
    first, second = make_planted_pair(np.random.default_rng(0), (1.0, 2.0))
    for builder in (first, second):
        results = {s: make_values(50.0 + s) for s in range(8)}
        builder.add_run({}, results, control="zero_shot", key="zs", **TAGS)
    rows = make_comparison(first, second).tables[0].rows
    assert [(row.control, row.section) for row in rows[2:]] == [("zero_shot", "controls")]
    assert rows[2].cells[f"{H}_verdict"] == Text("unchanged")
    second.factors = [make_factor(N_CTX, [1, 2], 2)]
    assert len(make_comparison(first, second).tables[0].rows) == 2


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
    """The message is one line and contains both values."""
    results = {4: {0: 60.0, 1: 61.0}}
    message = find_fault(
        make_study_builder("a", results), make_study_builder("b", results, tags={**TAGS, **changed})
    )
    assert message.startswith("cannot pair a (A) with b (B): ") and expected in message


def test_a_dataset_without_a_split_version_can_be_paired() -> None:
    """The tag of the split version is empty in both studies."""
    first, second = make_planted_pair(np.random.default_rng(0), (1.0,))
    for run in (*first.runs, *second.runs):
        run.tags["ship.split_version"] = ""
    assert make_comparison(first, second).tables[0].rows[0].comparison


def test_all_faults_are_in_one_line() -> None:
    """The message names differences in protocol, shots, classes, levels and seeds."""
    first = make_study_builder("a", {4: {0: 60.0, 1: 61.0}})
    constants = {"shots": "4", "max_classes": "20"}
    second = make_study_builder(
        "b", {4: {1: 60.0, 2: 61.0}}, protocol="few_shot", constants=constants
    )
    for run in second.runs:
        run.metrics.update({f"test/accuracy/seed_{s}": 60.0 for s in (1, 2)})
    message = find_fault(first, second)
    assert "protocol is base_to_new in A and few_shot in B" in message
    assert "shots is 16 in A and 4 in B" in message
    assert "max_classes is null in A and 20 in B" in message
    assert "at least 2 common seeds are needed, got 1 (finished seeds in A: 0 and 1" in message
    assert "\n" not in message
    other_levels = make_study_builder("b", {5: {0: 60.0, 1: 61.0}, 6: {0: 60.0, 1: 62.0}})
    message = find_fault(first, other_levels)
    assert "no configuration of A matches one of B (factors in A: " in message


def test_shots_as_a_factor_of_both_studies_are_paired_by_level() -> None:
    """Equal levels draw the same images."""
    builders = [
        StoreBuilder(name, [make_factor("shots", [1, 4], 4)], (0, 1))
        for name in ("first", "second")
    ]
    for position, builder in enumerate(builders):
        for shots in (1, 4):
            results = {s: make_values(60 + shots + s * (1 + position)) for s in (0, 1)}
            builder.add_run({"shots": shots}, results, key=f"{position}{shots}", **TAGS)
    assert len(make_comparison(*builders).tables[0].rows) == 2


def test_values_that_differ_are_listed_in_pairs() -> None:
    """Each value in A is next to that in B of the same configuration."""
    results = {4: {0: 60.0, 1: 61.0}, 5: {0: 60.0, 1: 62.0}, 6: {0: 60.0, 1: 63.0}}
    first, second = make_study_builder("a", results), make_study_builder("b", results)
    for builder, shots in ((first, "124"), (second, "248")):
        for run, text in zip(builder.runs, shots, strict=True):
            run.params["shots"] = text
    expected = "shots is 1 in A and 2 in B, or 2 in A and 4 in B, or 4 in A and 8 in B"
    assert find_fault(first, second).endswith(expected)
    second.runs[0].params["shots"] = "1"
    assert find_fault(first, second).endswith("or 4 in A and 8 in B for some levels")


def test_a_third_pair_of_values_is_counted() -> None:
    """Two pairs of values are listed for an option that differs."""
    results = {4: {0: 60.0, 1: 61.0}, 5: {0: 60.0, 1: 62.0}, 6: {0: 60.0, 1: 63.0}}
    first, second = make_study_builder("a", results), make_study_builder("b", results)
    for run, text in zip(second.runs, "234", strict=True):
        run.params["generator.kl_weight"] = text
    expected = "0.1 in A, 2 in B; 0.1 in A, 3 in B; and 1 more (differs in 3 of 3 configurations)"
    differing = make_comparison(first, second).paired.differing
    assert differing["generator.kl_weight"] == expected


def test_a_saturated_study_gets_no_verdict() -> None:
    """The answer gives the reason, and the table has no column of verdicts."""
    first, second = make_planted_pair(np.random.default_rng(0), (5.0,))
    for run in second.runs:
        run.metrics.update({f"test/flag/saturated/seed_{s}": 1.0 for s in range(8)})
    report = make_comparison(first, second)
    assert report.answer.limits[0].text.startswith("B: in 8 of 8 trials at least half")
    assert report.answer.findings[1].verdict is None
    assert "No verdict: selection is saturated." in report.answer.findings[1].text
    assert f"{H}_verdict" not in report.tables[0].rows[0].cells


def test_an_outlying_result_has_a_caution() -> None:
    """The caution names the study, the configuration and the seed."""
    first, second = make_planted_pair(np.random.default_rng(0), (0.0, 0.0, 0.0))
    second.runs[1].metrics[f"test/{H}/seed_3"] -= 20
    cautions = make_comparison(first, second).answer.cautions
    assert any("H of study B, n_ctx 2 under seed 3 is far from what the" in c for c in cautions)


def test_other_metrics_have_their_own_family() -> None:
    """Base may be unchanged while New is higher. The metric of --metric comes first."""
    first, second = make_planted_pair(np.random.default_rng(0), (0.0,))
    for builder, new in ((first, 60.0), (second, 63.0)):
        (run,) = builder.runs
        for seed in range(8):
            metrics = make_scores(new + seed + 0.1 * (seed % 2) * new / 60)
            run.metrics.update({f"test/{name}/seed_{seed}": v for name, v in metrics.items()})
    report = make_comparison(first, second, "new")
    assert [finding.verdict for finding in report.answer.findings[1:]] == ["higher", None, "higher"]
    row = report.tables[0].rows[0]
    assert row.cells["base_verdict"] == Text("unchanged")
    assert report.tables[0].columns[2].heading == "New of A"


def make_two_dataset_study(name: str, new: float, kl: str) -> StoreBuilder:
    """Build a study of two shots on two datasets. New depends on the dataset and the seed."""
    factors = [make_factor("dataset", ["emoji", "dtd"], "emoji"), make_factor("shots", [4, 16], 4)]
    builder = StoreBuilder(name, factors, (0, 1, 2))
    for position, dataset in enumerate(("emoji", "dtd")):
        for shots in (4, 16):
            results = {
                s: make_scores(new + 20 * position + s * (1 + 0.1 * position * new), 70)
                for s in (0, 1, 2)
            }
            assignment = {"dataset": dataset, "shots": shots}
            tags = {**TAGS, "dataset_fingerprint": dataset}
            builder.add_run(assignment, results, key=f"{kl} {dataset} {shots}", **tags)
    return builder


def test_averages_over_datasets_are_compared_first() -> None:
    """The average H is that of the averaged accuracies. Rows per dataset are in a second table."""
    first, second = (
        make_two_dataset_study("a", 50.0, "0.1"),
        make_two_dataset_study("b", 53.0, "1.0"),
    )
    report = make_comparison(first, second)
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


def run_command(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "160"})


def test_the_command_prints_and_writes_all_formats(store_uri: str, tmp_path: Path) -> None:
    """The formats are terminal text, HTML, Markdown, LaTeX and CSV."""
    first, second = make_planted_pair(np.random.default_rng(0), (2.0, 0.0))
    for builder in (first, second):
        builder.write(store_uri)
    options = ("--tracking-uri", store_uri)
    done = run_command("first", "second", "--paired", *options, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "second compared with first: B − A, paired by seed" in done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "first-second.txt", "first-second.md", "first-second.tex", "first-second.html",
        "first-second-paired.csv",
    }  # fmt: skip
    page = (tmp_path / "out" / "first-second.html").read_text("utf-8")
    assert "<h1>second compared with first</h1>" in page and "options that differ" in page
    for form, start in (("csv", "table,n_ctx,n,"), ("latex", "% needs"), ("markdown", "### ")):
        printed = run_command("first", "second", "--paired", *options, "--format", form)
        assert printed.exit_code == 0 and printed.output.startswith(start)
    refused = run_command("second", "first", "--paired", *options, "--metric", "nothing")
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
def test_invalid_arguments_are_an_error(arguments: list[str], expected: str) -> None:
    """The exit code is 2, and no store is read."""
    done = run_command(*arguments)
    assert done.exit_code == 2 and done.stderr.startswith(expected)


def test_studies_that_cannot_be_paired_end_with_2(store_uri: str) -> None:
    """The error is one line on stderr, and stdout is empty."""
    results = {4: {0: 60.0, 1: 61.0}}
    make_study_builder("a", results).write(store_uri)
    make_study_builder("b", results, tags={**TAGS, "dataset_fingerprint": "d2"}).write(store_uri)
    done = run_command("a", "b", "--paired", "--tracking-uri", store_uri)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_names_of_a_store_are_text_on_the_page() -> None:
    """A study's name is untrusted input."""
    first, second = make_planted_pair(np.random.default_rng(0), (2.0,))
    first.name = "<b>\x1b[31m"
    files = make_paired_files(make_comparison(first, second))
    (page,) = (data.decode() for name, data in files.items() if name.endswith(".html"))
    assert "<b>" not in page and "\x1b" not in page
    assert all("/" not in name and "<" not in name for name in files)
    assert format_csv(make_comparison(first, second).tables[0])
