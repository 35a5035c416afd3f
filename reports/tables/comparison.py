"""What is compared with what: paired differences, by plain tests or the study's own design."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from reports.contract import COMPLETE
from reports.read import Study, heading, load_records
from reports.stats import (
    Comparison,
    Decision,
    Ending,
    Estimate,
    compare_paired,
    endings,
    is_rounding,
    scale_of,
)
from reports.tables.groups import (
    MOST_LEVELS,
    Group,
    arm_groups,
    baseline_level,
    baseline_setting,
    by_seed,
    companions,
    factor_labels,
    level_groups,
    matched,
    ordered_levels,
    results,
    setting_groups,
    short_name,
    spelled,
)
from reports.tables.metric import with_metric
from reports.tables.model import CLASSES, Cell, Column, PValue, Quantity, Ranged, Row, Text, Value
from reports.tables.pooling import averaged, dataset_factor
from reports.tables.preference import without_added


@dataclass(frozen=True)
class Paired:
    """A row of a table against its baseline.

    label: the row in words. differences: seed -> of the metric, on seeds that both finished.
    """

    label: str
    differences: Mapping[int, float]

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the differences; 0 of fewer than two."""
        values = list(self.differences.values())
        return statistics.stdev(values) if len(values) > 1 else 0.0


@dataclass(frozen=True)
class Family:
    """The comparisons of one table, corrected for together.

    name: of the table: a factor's key, or "settings". metric: its heading.
    seconds: of one more seed of all that the table holds, as far as it has finished.
    """

    name: str
    metric: str
    comparisons: tuple[Paired, ...]
    seconds: float


def load_families(study_name: str, tracking_uri: str) -> list[Family]:
    """The families of a study in a store, by the metric that its report is of.

    Raises:
        ReportError: unreadable store or unknown study (one line).
        EmptyStudyError: nothing of it has ended yet.
    """
    return families(load_records(study_name, tracking_uri))


def load_values(study_name: str, tracking_uri: str) -> dict[str, dict[int, float]]:
    """setting_key -> seed -> the metric that the report is of, of finished rows.

    Raises:
        ReportError, EmptyStudyError: see load_families.
    """
    study, metric = with_metric(load_records(study_name, tracking_uri), None)
    found: dict[str, dict[int, float]] = {}
    rows = study.rows.filter(pl.col("state") == COMPLETE).drop_nulls(f"test/{metric}")
    for key, seed, value in rows.select("setting_key", "seed", f"test/{metric}").iter_rows():
        found.setdefault(key, {})[seed] = value
    return found


def families(study: Study, metric: str | None = None) -> list[Family]:
    """What the tables of a study compare: its levels or settings, and each factor's main effects.

    Over datasets it is the averages; there is none where no average can be made.

    Args:
        study: of the store.
        metric: the test metric; None: the protocol's default.

    Raises:
        ReportError: the protocol has no such metric.
    """
    study, metric = with_metric(study, metric)
    over = dataset_factor(study)
    whole = averaged(study, over) if over else study
    if whole is None or not whole.factors:
        return []
    levelled = [f for f in whole.factors if len(ordered_levels(whole, f)) <= MOST_LEVELS]
    found = []
    if len(whole.factors) > 1 or not levelled:
        settings = setting_groups(whole)
        groups, labels = [*settings, *arm_groups(whole)], factor_labels(whole)
        baseline = baseline_setting(whole, settings)
        found.append(_family(whole, "settings", groups, baseline, {}, metric, labels))
    own = without_added(whole)
    for factor in levelled if whole.sampler == "grid" else []:
        levels = level_groups(own, factor)
        groups = [*levels, *(arm_groups(own) if len(own.factors) == 1 else [])]
        label = [Column("level", short_name(own, factor))]
        baseline, cells = baseline_level(factor, levels), companions(own, factor)
        found.append(_family(own, factor.key, groups, baseline, cells, metric, label))
    return [family for family in found if family is not None and family.comparisons]


def _family(
    study: Study,
    name: str,
    groups: list[Group],
    baseline: Group | None,
    cells: Mapping[str, str],
    metric: str,
    labels: list[Column],
) -> Family | None:
    if baseline is None:
        return None
    compared = [
        Paired(spelled(group, labels), differences(*paired(group, baseline, cells, metric)))
        for group in groups
        if group is not baseline
    ]
    seconds = [group.done["seconds"].mean() for group in groups]
    per_seed = sum(value for value in seconds if isinstance(value, float))
    return Family(name, heading(study.protocol, metric), tuple(compared), per_seed)


def paired(
    group: Group, baseline: Group, cells: Mapping[str, str], metric: str
) -> tuple[dict[int, float], dict[int, float]]:
    """seed -> metric of a row and of its baseline, on the (cell, seed) pairs that both finished.

    Args:
        group, baseline: the rows behind them.
        cells: setting_key -> companion cell to match within (see companions). An arm has no
            factors: it meets the baseline's settings seed by seed, whatever their cells.
        metric: the test metric.
    """
    within = _within(group, baseline, cells)
    column = f"test/{metric}"
    mine = matched(group.rows, column, within)
    theirs = matched(baseline.rows, column, within)
    return by_seed(mine, theirs), by_seed(theirs, mine)


def unchanged(group: Group, baseline: Group, cells: Mapping[str, str], metric: str) -> bool:
    """Whether all that paired() compares is the same, not only its means: see same_results.

    Args:
        group, baseline, cells, metric: as paired takes them.
    """
    within = _within(group, baseline, cells)
    column = f"test/{metric}"
    mine = results(group.rows, column, within)
    theirs = results(baseline.rows, column, within)
    return same_results([[*mine[p], *theirs[p]] for p in mine if p in theirs])


def same_results(places: Sequence[Sequence[float]]) -> bool:
    """Whether at each place, such as a seed, all results are one number but for rounding.

    Args:
        places: the results at each; of none nothing is known.
    """
    return bool(places) and all(
        is_rounding(max(found) - min(found), scale_of(found)) for found in places
    )


def _within(group: Group, baseline: Group, cells: Mapping[str, str]) -> Mapping[str, str]:
    return {} if group.arm or baseline.arm else cells


def differences(values: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """seed -> value - baseline, on common seeds."""
    return {seed: value - baseline[seed] for seed, value in values.items() if seed in baseline}


# seed -> metric of a row, and of its baseline
Pairs = tuple[Mapping[int, float], Mapping[int, float]]
_PERCENT = 100.0
_WORDS: Mapping[Decision, str] = {"constant": "no spread"}


def is_designed(study: Study, metric: str) -> bool:
    """Whether the study's own design says what its differences in a metric have come to."""
    of_one_factor = len(study.factors) == 1
    return of_one_factor and study.detection is not None and study.detection.metric == metric


def stopped(
    study: Study, metric: str, pairs: Sequence[Pairs | None]
) -> Sequence[Ending | None] | None:
    """What the comparisons of a table have come to: its levels and its reference arms.

    Args:
        study: with its seeds in the order in which they were given out.
        metric: of the table.
        pairs: of each row; None: it is compared with nothing.

    Returns:
        An ending a row, None of one that is not compared, or has fewer seeds than the first look.
        None in place of all where the plain tests speak: without a design, or of another metric
        than it is for.
    """
    detection = study.detection
    if detection is None or not is_designed(study, metric):
        return None
    family = [given_out(differences(*pair), study.seeds) for pair in pairs if pair]
    found = iter(endings(detection.design, family, _PERCENT))
    return [next(found) if pair else None for pair in pairs]


def given_out(values: Mapping[int, float], seeds: Sequence[int]) -> list[float]:
    """The values in the order of the seeds, up to the first seed that has none."""
    listed: list[float] = []
    for seed in seeds:
        if seed not in values:
            break
        listed.append(values[seed])
    return listed


def compare(
    study: Study, metric: str, pairs: Sequence[Pairs | None]
) -> list[tuple[Comparison | None, Decision | None]]:
    """The comparisons of a table: by the study's own design, else by the plain tests.

    Args:
        study, metric, pairs: see stopped.

    Returns:
        For each row the comparison, None without one, and what the design has decided, None where
        it has no say. Where it has, the interval is the design's, and there is no p.
    """
    plain = [compare_paired(*pair) if pair else None for pair in pairs]
    found = stopped(study, metric, pairs)
    if found is None:
        return [(comparison, None) for comparison in plain]
    return [
        (None, None) if comparison is None else _by_design(comparison, ending)
        for comparison, ending in zip(plain, found, strict=True)
    ]


def _by_design(comparison: Comparison, ending: Ending | None) -> tuple[Comparison, Decision]:
    if ending is not None:
        return Comparison(ending.difference, None, None), ending.decision
    # fewer seeds than the first look: nothing is known of it yet
    bare = dataclasses.replace(comparison.difference, low=None, high=None)
    return Comparison(bare, None, None), "open"


def decision_cell(decision: Decision) -> Text:
    """What a design has decided, as a table says it."""
    return Text(_WORDS.get(decision, decision))


def detection_notes(study: Study, metric: str) -> list[str]:
    """How seeds were given out, and what allows for that.

    Args:
        study: whose table it is.
        metric: of the table.
    """
    if study.detection is None:
        return []
    design = study.detection.design
    effect, (first, *_, last) = f"{design.effect:g}", (*design.looks, design.looks[-1])
    if not is_designed(study, metric):
        other = heading(study.protocol, study.detection.metric)
        return [
            f"seeds were added until differences in {other} were decided (ship-sweep --detect"
            f" {effect}): the intervals and p-values of other metrics do not allow for that"
        ]
    return [
        f"ship-sweep --detect {effect}: seeds were added, from {first} to at most {last}, until a Δ"
        f" differed from 0 (at 5% for all {design.comparisons} comparisons together, levels and"
        f" reference arms) or was equivalent (within ±{effect}, at 2.5% for each). The column"
        " decision says what each has come to after so many pairs; open: neither yet, or not by the"
        " last look; no spread: its pairs do not vary. The interval of Δ allows for the looks,"
        " those of the rows' means do not. No other test is made of Δ: it would say something else"
    ]


DECISION = Column("decision", "decision", "left")


def difference_columns(head: str, *, designed: bool = False) -> list[Column]:
    """The columns of a comparison to the baseline.

    Args:
        head: the metric's heading.
        designed: whether the study's own design decides, in place of plain tests.
    """
    plain = [Column("p", "Holm p"), Column("detectable", "MDE", drop=5)]
    return [
        Column("difference", f"Δ{head}"),
        Column(CLASSES, f"Δ{head} over classes", drop=4),
        Column("pairs", "pairs", drop=2),
        *([DECISION] if designed else plain),
    ]


def kept_columns(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[Column, ...]:
    """The columns of a table: without the one over classes, where no row has it."""
    told = any(CLASSES in row.cells for row in rows)
    return tuple(column for column in columns if told or column.key != CLASSES)


def compared_in(family: Sequence[float | None]) -> int:
    """How many comparisons a family has.

    Args:
        family: p-values; None: not compared.
    """
    return max(1, sum(p is not None for p in family))


def compared_cells(
    comparison: Comparison | None,
    p: float | None,
    comparisons: int,
    decimals: int = 1,
    classes: Estimate | None = None,
) -> dict[str, Cell]:
    """Difference, pairs, corrected p and detectable effect, as far as there are any.

    Args:
        comparison: of a row to the baseline; None: there is none.
        p: corrected.
        comparisons: in the family.
        decimals: of the metric's cells.
        classes: the difference's interval over other test classes, if there is one.
    """
    if comparison is None:
        return {}
    cells: dict[str, Cell] = {
        "difference": Value(comparison.difference, signed=True, decimals=decimals),
        "pairs": Quantity(comparison.difference.n, 0),
    }
    if classes is not None:
        cells[CLASSES] = Ranged(classes, 1, bare=True)
    if p is not None:
        cells["p"] = PValue(p)
    detectable = comparison.detectable(comparisons)
    if detectable is not None:
        cells["detectable"] = Quantity(detectable, decimals)
    return cells
