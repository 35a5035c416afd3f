"""The answer of a study, out of its tables, and what weakens it."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence, Set

import polars as pl

from reports import tables
from reports.analysis import Analysis, incomparable
from reports.answer.levels import arms_finding, levels_finding
from reports.answer.together import ranks_finding, shares_finding
from reports.answer.words import Answer, Finding, listed, p_words, points, signed, value_in
from reports.contract import COMPLETE, FAIL, PRUNED
from reports.read import Study, heading
from reports.tables import Row, Table

BEST = "best setting by selection"  # the subject of a finding


def build_answer(analysis: Analysis, made: Sequence[Table]) -> Answer:
    """What the tables say of each factor, of the reference arms, and what weakens it.

    Args:
        analysis: of the study and the metric whose tables they are.
        made: as reports.tables.build_tables gives them.
    """
    study, metric = analysis.study, analysis.metric
    head = heading(study.protocol, metric).rstrip(".")
    effect = tables.effect_of(study, metric)
    findings = list(_findings(analysis, made, head, effect))
    judged = any(finding.verdict for finding in findings)
    rule = _rule(study, metric, head, effect) if judged and effect is not None else ""
    return Answer(tuple(findings), tuple(cautions(study, made)), rule)


def _findings(
    analysis: Analysis, made: Sequence[Table], head: str, effect: float | None
) -> Iterator[Finding]:
    """The findings, the most general first; of parts of a study, such as one dataset, none."""
    study = analysis.study
    over = tables.datasets(study)
    whole = [
        t
        for t in made
        if not over or t.kind == "methods" or t.name.startswith(f"{tables.AVERAGE}-")
    ]
    apart = tables.on_other_classes(study)
    for table in whole:
        # scores of different rules, or on different classes, choose no setting
        if table.kind == "settings" and not apart and not incomparable(study):
            yield from filter(None, [_chosen(table, head)])
    told = list(_of_factors(analysis, whole, head, effect))
    yield from told
    certain = any(finding.certain for finding in told)
    if shares := shares_finding(analysis, head, certain=certain):
        yield shares
    # The reference arms ran on one dataset, in whose table they are.
    place = f" on {tables.arms_dataset(study)}" if over else ""
    beside = (arms_finding(study, table, place) for table in made)
    yield from itertools.islice((found for found in beside if found), 1)


def _of_factors(
    analysis: Analysis, made: Sequence[Table], head: str, effect: float | None
) -> Iterator[Finding]:
    for table in made:
        if table.kind == "ranks":
            yield ranks_finding(table, head, _wanted(analysis.study))
        elif table.kind and table.kind != "settings":
            found = levels_finding(table, head, effect)
            depends = _depends(analysis, table) if table.kind == "effects" else ""
            if found:
                yield dataclasses.replace(found, text=f"{found.text} {depends}".strip())


def _wanted(study: Study) -> int:
    """The settings that a sampler was asked for."""
    own = tables.without_added(study)
    return sum(not setting.arm for setting in own.settings) + own.untried


def _depends(analysis: Analysis, table: Table) -> str:
    """On which other factors a factor's effect depends, beyond chance; "" on none."""
    key, names = table.name.removeprefix(f"{tables.AVERAGE}-"), tables.short_names(analysis.study)
    others = [
        f"{names[other]} ({p_words(pair.holm)})"
        for pair in analysis.interactions
        if key in pair.factors and tables.is_beyond_chance(pair.holm)
        for other in pair.factors
        if other != key
    ]
    return f"Its effect depends on {listed(others)}." if others else ""


def _chosen(table: Table, head: str) -> Finding | None:
    """The setting with the best selection score, and its test result."""
    scored = [row for row in table.own if tables.OBJECTIVE in row.cells]
    if len(scored) < 2 or table.metric not in scored[0].cells:
        return None
    first = tables.tied_first([value_in(row, tables.OBJECTIVE) for row in scored])
    best, *tied = (row for row, one in zip(scored, first, strict=True) if one)
    if tied:
        return _tie(table, head, [best, *tied])
    base = table.baseline
    ran = ", which --path ran" if best.added else ""
    name = f"{best.name}{ran}{_of_seeds(best)}"
    words = f"{name}: {head} {tables.cell_text(best.cells[table.metric])}"
    if base is not None and best.compared is not None:
        than, told = base.name, p_words(best.compared.p)
        if best.compared.unchanged:
            words += f", under each seed exactly that of {than}"
        else:
            words += f", {signed(best.compared)} against {than}{f' ({told})' if told else ''}"
    return Finding(BEST, None, f"{words}.")


def _of_seeds(row: Row) -> str:
    """How many of its seeds a setting's scores are of, where it is not all."""
    counts = row.cells.get("n")
    if not isinstance(counts, tables.Counts) or not counts.absent():
        return ""
    every = counts.done + counts.failed + counts.pruned + counts.missing
    return f" (over {counts.done} of its {every} seeds)"


def _tie(table: Table, head: str, rows: Sequence[Row]) -> Finding:
    """The settings that selection cannot tell apart, and what they reach on test."""
    shown = dict.fromkeys(tables.cell_text(row.cells.get(table.metric)) for row in rows)
    means = [value_in(row, table.metric) for row in rows if table.metric in row.cells]
    each = f"{head} {next(iter(shown))} each"
    if len(shown) > 1:
        each = f"{head} from {min(means):.1f} to {max(means):.1f}"
    among = ". The baseline is among them" if any(row.baseline for row in rows) else ""
    names = tables.tied_names([row.name for row in rows])
    text = f"none alone. {names}{among}. On test: {each}."
    return Finding(BEST, None, text)


def _rule(study: Study, metric: str, head: str, effect: float) -> str:
    """What the verdicts mean."""
    if study.detection is not None and tables.is_designed(study, metric):
        return (
            "By the study's own design (--detect). Differs: from 0, at 5% for all"
            f" {study.detection.design.comparisons} comparisons together, levels and reference"
            f" arms. Equivalent: within ±{points(effect)} of {head}, at 2.5% for each. Undecided:"
            " neither. ±: 95% over seeds, which allows for the looks."
        )
    return (
        f"Decided: beyond ±{points(effect)} of {head}, the smallest effect of interest (Holm p of"
        f" that < 0.05). Equivalent: the 95% interval is within ±{effect:g}. ±: 95% over seeds,"
        " uncorrected."
    )


_ENDS = {FAIL: "failed", PRUNED: "stopped early"}
_INCOMPLETE = "incomplete"


def cautions(study: Study, made: Sequence[Table]) -> Iterator[str]:
    """The cautions of a study, the gravest first.

    Args:
        study: whose answer it is.
        made: the tables that the answer is made from.
    """
    yield from _leaks(study)
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."
    if any(_without_baseline(table) for table in made):
        yield "The baseline has not finished: nothing is compared with it."
    yield from _lacking(study)
    done = study.rows.filter(study.rows["state"] == COMPLETE)
    seeds = done["seed"].n_unique()
    if not seeds:
        yield "Nothing has finished."
    elif seeds < tables.FEWEST_SEEDS:
        yield f"Only {seeds} seed{'' if seeds == 1 else 's'} finished: intervals are rough."


def _leaks(study: Study) -> Iterator[str]:
    rules = {str(rule) for rule in study.rows["selection"].to_list() if rule}
    leaking = {rule for rule in rules if tables.on_test(rule)}
    if leaking and leaking == rules:
        yield "Selected on test data, which flatters every number."
    elif leaking:
        named = ", ".join(sorted(leaking))
        yield f"Some settings are selected on test data ({named}), which flatters them."


def _without_baseline(table: Table) -> bool:
    """Whether a table of levels or settings has results and no baseline to hold them against."""
    if table.kind not in ("levels", "effects", "settings") or table.place != "page":
        return False
    base, others = table.baseline, [row for row in table.own if not row.baseline]
    measured = any(table.metric in row.cells for row in others)
    return base is not None and table.metric not in base.cells and measured


def _end(states: Set[str]) -> str:
    """What became of a setting whose seeds are in these states, the gravest; "" where all is well.

    Each setting counts once, so that the counts are of different settings.
    """
    found = next((end for state, end in _ENDS.items() if state in states), "")
    return found or (_INCOMPLETE if states - {COMPLETE} else "")


def _lacking(study: Study) -> Iterator[str]:
    own = {setting.key for setting in study.settings if not setting.arm}
    for kind, keys in (
        ("setting", own),
        ("reference arm", {s.key for s in study.settings if s.arm} - own),
    ):
        rows = study.rows.filter(pl.col("setting_key").is_in(list(keys)))
        grouped = rows.group_by("setting_key").agg(pl.col("state"))
        ends = Counter(_end(set(states)) for states in grouped["state"].to_list())
        parts = [f"{ends[end]} {end}" for end in (*_ENDS.values(), _INCOMPLETE) if ends[end]]
        if parts:
            many = f"{len(grouped)} {kind}{'' if len(grouped) == 1 else 's'}"
            yield f"Not answered in full: of {many}, {', '.join(parts)}."
    if study.untried:
        are = "setting is" if study.untried == 1 else "settings are"
        yield f"Not answered in full: {study.untried} {are} still to be tried."
