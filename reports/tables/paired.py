"""Comparison of two studies A and B: the difference B - A of each configuration, paired by seed."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import polars as pl

from harness.store import FactorRecord
from harness.wording import count
from reports import stats
from reports.cells import (
    AVERAGE,
    Cell,
    Column,
    Legend,
    PValue,
    Quantity,
    Table,
    Text,
    Value,
    make_optional_cell,
)
from reports.errors import ReportError
from reports.formatting import format_points, join_names
from reports.stats import Compared
from reports.study import Study, get_metric_heading
from reports.tables.annotated_tables import make_averages_note, make_mde_note, make_plain_table
from reports.tables.groups import Group, format_group_name, make_label_columns
from reports.tables.metric import (
    compute_interval,
    get_decimals,
    get_smallest_effect,
    resolve_metric,
)
from reports.tables.over_datasets import average_over_datasets, list_datasets
from reports.tables.pairing import (
    Pair,
    find_differing_options,
    find_pairing_faults,
    get_shared_factors,
    list_provenance_pairs,
    pair_configurations,
)

TABLE = "paired"  # name of the table


@dataclass(frozen=True, eq=False)
class PairedStudies:
    """Two studies A and B whose configurations are compared seed by seed.

    Attributes:
        first: Study A.
        second: Study B.
        metrics: Metrics that are compared; the first one is the main metric.
        pairs: Pairs of configurations, followed by pairs of controls.
        differing: Options whose values differ -> the values as text; see find_differing_options.
    """

    first: Study
    second: Study
    metrics: tuple[str, ...]
    pairs: tuple[Pair, ...]
    differing: Mapping[str, str]

    @property
    def name(self) -> str:
        """Name of the comparison: "B compared with A"."""
        return f"{self.second.name} compared with {self.first.name}"

    @property
    def labels(self) -> list[Column]:
        """The label columns: one per factor that both studies have."""
        return make_label_columns(dataclasses.replace(self.first, factors=self._shared_factors))

    @property
    def _shared_factors(self) -> tuple[FactorRecord, ...]:
        return get_shared_factors(self.first, self.second)

    @cached_property
    def compared(self) -> dict[str, dict[Pair, Compared]]:
        """Metric -> pair -> comparison. Pairs without a common seed have none.

        Holm's correction is over the pairs of a metric. If a control is the same as a
        configuration, their test counts once.
        """
        return {metric: self._compare(metric) for metric in self.metrics}

    def _compare(self, metric: str) -> dict[Pair, Compared]:
        """Return the comparison in one metric of each pair that has a common seed."""
        column = f"test/{metric}"
        untested: dict[tuple[str, str], Compared] = {}  # by Pair.keys
        for pair in self.pairs:
            comparison = stats.compare_paired(
                pair.second.values_by_seed(column), pair.first.values_by_seed(column)
            )
            if comparison is not None:
                untested.setdefault(pair.keys, comparison)
        tested = stats.add_verdicts([*untested.values()], get_smallest_effect(self.first, metric))
        decimals = get_decimals(self.combined, metric)
        comparisons = {
            keys: _mark_unchanged(dataclasses.replace(comparison, decimals=decimals))
            for keys, comparison in zip(untested, tested, strict=True)
        }
        return {pair: comparisons[pair.keys] for pair in self.pairs if pair.keys in comparisons}

    @cached_property
    def combined(self) -> Study:
        """One study with the paired rows of both, for the title, headings and notes."""
        first, second = self.first, self.second
        keys = [{pair.keys[side] for pair in self.pairs} for side in (0, 1)]
        parts = [
            study.rows.filter(pl.col("config_key").is_in(list(paired_keys)))
            for study, paired_keys in zip((first, second), keys, strict=True)
        ]
        constants = {k: v for k, v in first.constants.items() if second.constants.get(k) == v}
        warnings = [f"{s.name}: {line}" for s in (first, second) for line in s.warnings]
        return dataclasses.replace(
            second,
            name=self.name,
            rows=pl.concat(parts, how="diagonal_relaxed"),
            factors=self._shared_factors,
            constants=constants,
            demonstration=first.demonstration or second.demonstration,
            # these counts are in the report of each study
            n_left_out=0,
            n_untried=0,
            reused={},
            warnings=tuple(warnings),
            smallest_effect=first.smallest_effect,
        )

    def name_of(self, pair: Pair) -> str:
        """Return the name of a pair in sentences: "n_ctx 4", or the label of a control."""
        return format_group_name(pair.first, self.labels) or pair.first.labels[0].text


def pair_studies(first: Study, second: Study, metric: str | None = None) -> PairedStudies:
    """Pair the configurations and controls of two studies.

    Args:
        first: Study A.
        second: Study B.
        metric: Main metric. Defaults to the main metric of A's protocol.

    Raises:
        ReportError: If the studies cannot be compared seed by seed (one line with all reasons), or
            if one of them has no such metric.
    """
    first, main_metric = resolve_metric(first, metric)
    pairs = pair_configurations(first, second)
    if faults := find_pairing_faults(first, second, pairs, main_metric):
        raise ReportError(
            f"cannot pair {first.name} (A) with {second.name} (B): {'; '.join(faults)}"
        )
    second, _ = resolve_metric(second, main_metric)
    metrics = dict.fromkeys((main_metric, *first.protocol.required))
    differing = find_differing_options(list_provenance_pairs(first, second, pairs))
    return PairedStudies(first, second, tuple(metrics), tuple(pairs), differing)


def pair_averages(paired: PairedStudies) -> PairedStudies | None:
    """Return the same comparison for averages over the datasets that both studies have.

    Args:
        paired: The two studies.

    Returns:
        None if the studies have fewer than two datasets in common, or if no method finished on all
        of these under the same seed in both studies.
    """
    datasets_b = list_datasets(paired.second)
    names = [name for name in list_datasets(paired.first) if name in datasets_b]
    if len(names) < 2:
        return None
    first = average_over_datasets(paired.first, names)
    second = average_over_datasets(paired.second, names)
    if first is None or second is None:
        return None
    pairs = pair_configurations(first, second)
    column = f"test/{paired.metrics[0]}"
    if not any(pair.common_seeds(column) for pair in pairs):
        return None
    return dataclasses.replace(paired, first=first, second=second, pairs=tuple(pairs))


def _mark_unchanged(comparison: Compared) -> Compared:
    """If all differences are 0, mark a comparison as unchanged and remove its verdict."""
    if comparison.difference.mean == 0 and comparison.std is None:
        return dataclasses.replace(comparison, is_unchanged=True, verdict=None)
    return comparison


def format_verdict(comparison: Compared) -> str | None:
    """Return a comparison's verdict as text, or "unchanged"; None if it has no verdict."""
    return "unchanged" if comparison.is_unchanged else comparison.verdict


def make_paired_table(paired: PairedStudies, *, has_verdicts: bool) -> Table:
    """Return the table of two studies, with a row per pair and the differences in all metrics.

    Args:
        paired: The two studies.
        has_verdicts: Whether to show verdicts. If False, their column has only "unchanged".
    """
    main_metric = paired.metrics[0]
    comparisons = paired.compared[main_metric]
    columns = [Column("n", "pairs", lambda pair: Quantity(_count_seeds_in_common(paired, pair), 0))]
    for metric in paired.metrics:
        is_main = metric == main_metric
        columns += _make_metric_columns(paired, metric, is_main=is_main, has_verdicts=has_verdicts)
    labels = [
        dataclasses.replace(column, cell=partial(_make_label_cell, index))
        for index, column in enumerate(paired.labels)
    ]

    def row_fields(pair: Pair) -> dict[str, Any]:
        both_sides = Group((), [*pair.first.rows, *pair.second.rows])
        return {
            "control": pair.control,
            "counts": both_sides.counts,
            "flags": both_sides.flags(),
            "comparison": comparisons.get(pair),
            "name": paired.name_of(pair),
            "level": pair.first.labels[0].text,
        }

    study = paired.combined
    name = f"{TABLE}-{AVERAGE}" if study.pooled_datasets else TABLE
    table = make_plain_table(
        study, name, "B − A, paired by seed", [*labels, *columns], paired.pairs,
        _notes(paired), row_fields, n_labels=len(labels), metric=main_metric,
    )  # fmt: skip
    return dataclasses.replace(table, notes=(format_differences(paired), *table.notes))


def format_differences(paired: PairedStudies) -> str:
    """Return one line of text with the names of both studies and the options that differ."""
    listed = [f"{key} is {text}" for key, text in paired.differing.items()]
    options = f"options that differ: {join_names(listed, '; ')}" if listed else "no option differs"
    return f"A: {paired.first.name}; B: {paired.second.name}; {options}"


def _make_label_cell(index: int, pair: Pair) -> Cell | None:
    """Return a pair's cell in a label column; None if the pair has fewer labels.

    A control has one label, its name, in the first label column.

    Args:
        index: Index of the label column.
        pair: The pair.
    """
    labels = pair.first.labels
    return labels[index] if index < len(labels) else None


def _count_seeds_in_common(paired: PairedStudies, pair: Pair) -> int:
    """Return the number of seeds under which both sides have the main metric."""
    return len(pair.common_seeds(f"test/{paired.metrics[0]}"))


def _count_tests(paired: PairedStudies, metric: str) -> int:
    """Return the number of tests in a metric that are corrected together.

    If a control is the same as a configuration, their test counts once.
    """
    compared = paired.compared[metric].items()
    return len({pair.keys for pair, comparison in compared if comparison.holm_p is not None})


def _make_metric_columns(
    paired: PairedStudies, metric: str, *, is_main: bool, has_verdicts: bool
) -> Iterator[Column]:
    """Yield the columns of a metric: both means, the difference, its p and MDE, and the verdict.

    Args:
        paired: The two studies.
        metric: The metric.
        is_main: Whether it is the main metric. The means and MDE of other metrics are only in CSV
            files.
        has_verdicts: Whether to show verdicts; see make_paired_table.
    """
    heading, compared = (
        get_metric_heading(paired.combined.protocol, metric),
        paired.compared[metric],
    )
    decimals = get_decimals(paired.combined, metric)

    def compared_cell(cell: Callable[[Compared], Cell | None]) -> Callable[[Pair], Cell | None]:
        return lambda pair: cell(compared[pair]) if pair in compared else None

    def mean_cell(side: str, pair: Pair) -> Cell | None:
        column, group = f"test/{metric}", pair.first if side == "A" else pair.second
        values = group.values_by_seed(column)
        common_values = [values[seed] for seed in pair.common_seeds(column)]
        if not common_values:
            return None
        return Value(compute_interval(metric, common_values), decimals=decimals)

    def verdict_cell(comparison: Compared) -> Cell | None:
        has_text = has_verdicts or comparison.is_unchanged
        return make_optional_cell(Text, format_verdict(comparison)) if has_text else None

    if is_main:
        prefix = ""
        drops = {"verdict": 0, "p": 0, "difference": 0}
    else:
        prefix = f"{heading} "
        drops = {"verdict": 1, "p": 2, "difference": 3}
    for side in ("A", "B"):
        key = f"{metric}_{side.lower()}"
        mean = partial(mean_cell, side)
        yield Column(key, f"{heading} of {side}", mean, drop=5, csv_only=not is_main)
    difference = compared_cell(lambda c: Value(c.difference, signed=True, decimals=c.decimals))
    yield Column(f"{metric}_difference", f"Δ{heading}", difference, drop=drops["difference"])
    p = compared_cell(lambda c: make_optional_cell(PValue, c.holm_p))
    yield Column(f"{metric}_p", f"{prefix}Holm p", p, drop=drops["p"])
    mde = compared_cell(lambda c: make_optional_cell(Quantity, c.mde, decimals=c.decimals))
    yield Column(f"{metric}_mde", "MDE", mde, drop=4, csv_only=not is_main)
    verdict = compared_cell(verdict_cell)
    yield Column(f"{metric}_verdict", f"{prefix}verdict", verdict, "left", drop=drops["verdict"])


def _notes(paired: PairedStudies) -> Iterator[str]:
    """Yield the notes on the columns, the tests, and configurations that are not compared."""
    first, second, main_metric = paired.first, paired.second, paired.metrics[0]
    protocol = paired.combined.protocol
    tests = ", ".join(
        f"{get_metric_heading(protocol, metric)}: {_count_tests(paired, metric)}"
        for metric in paired.metrics
    )
    mde_text = make_mde_note(
        get_metric_heading(protocol, main_metric), max(1, _count_tests(paired, main_metric))
    )
    yield Legend(
        "each row is one configuration in both studies. pairs: seeds that finished in both; all"
        " means are over these. Δ: B − A by seed, with an uncorrected interval. p: paired t-test"
        " (exact sign test if all differences are equal), Holm-corrected over the rows of one"
        f" metric (comparisons: {tests}). {mde_text}. Flags count the results of both studies."
        f" {first.protocol.note}"
    )
    if first.smallest_effect != second.smallest_effect:
        effect_a, effect_b = map(format_points, (first.smallest_effect, second.smallest_effect))
        yield f"smallest_effect is {effect_a} in A and {effect_b} in B; verdicts use that of A"
    if paired.combined.pooled_datasets:
        yield make_averages_note(paired.combined)
        return  # the following notes need config_keys of the store, which averages lack
    identical = [paired.name_of(pair) for pair in paired.pairs if len({*pair.keys}) == 1]
    if identical:
        yield f"the same configuration in both studies: {join_names(identical)}"
    not_compared = [
        paired.name_of(pair) for pair in paired.pairs if pair not in paired.compared[main_metric]
    ]
    if not_compared:
        yield f"not compared, because no seed finished in both studies: {join_names(not_compared)}"
    if first.protocol.headings.get("source"):
        yield (
            "it was not checked that both studies used the same target images: the store has no"
            " fingerprint of them"
        )
    for study, name, side in ((first, "A", 0), (second, "B", 1)):
        paired_keys = {pair.keys[side] for pair in paired.pairs}
        unpaired = [c for c in study.non_controls if c.key not in paired_keys]
        if unpaired:
            yield f"only in {name}: {count(len(unpaired), 'configuration')}"
