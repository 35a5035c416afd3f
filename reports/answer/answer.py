"""The answer of a study, out of its tables, and what weakens it."""

import dataclasses
from collections.abc import Iterator, Sequence

from reports import tables
from reports.analysis import Analysis, incomparable
from reports.answer.findings import (
    Answer,
    Finding,
    arms_finding,
    levels_finding,
    p_words,
    points,
    ranks_finding,
    shares_finding,
)
from reports.contract import ARMS, COMPLETE
from reports.read import Study, heading
from reports.tables import Table

BEST = "best setting by selection"  # the subject of a finding
# With fewer, a t-interval rests on a deviation that is hardly known (docs/statistics.md).
FEWEST_SEEDS = 5


def build_answer(analysis: Analysis, made: Sequence[Table]) -> Answer:
    """What the tables say of each factor, of the reference arms, and what weakens it.

    Args:
        analysis: of the study and the metric whose tables they are.
        made: as reports.tables.build_tables gives them.
    """
    study, metric = analysis.study, analysis.metric
    head = heading(study.protocol, metric).rstrip(".")
    findings = list(_findings(analysis, made, head))
    effect = tables.effect_of(study, metric)
    judged = effect is not None and any(finding.verdict for finding in findings)
    rule = _rule(study, metric, head, effect) if judged and effect is not None else ""
    return Answer(tuple(findings), tuple(cautions(study, made)), rule)


def _findings(analysis: Analysis, made: Sequence[Table], head: str) -> Iterator[Finding]:
    """The findings, the most general first; of parts of a study, such as one dataset, none."""
    study = analysis.study
    over = tables.datasets(study)
    # scores of different rules choose no setting
    ranked = any(table.kind == "settings" for table in made)
    if ranked and not over and not incomparable(study):
        yield from _best(study, analysis.metric, head)
    for table in made:
        whole = not over or table.kind == "methods" or table.name.startswith(f"{tables.AVERAGE}-")
        if whole and table.kind == "ranks":
            yield ranks_finding(table, head, study)
        elif whole and (found := levels_finding(table, head)):
            depends = _depends(analysis, table) if table.kind == "effects" else ""
            yield dataclasses.replace(found, text=f"{found.text} {depends}".strip())
    if shares := shares_finding(analysis, head):
        yield shares
    # The reference arms ran on one dataset, in whose table they are.
    place = f" on {tables.arms_dataset(study)}" if over else ""
    yield from [one for table in made if (one := arms_finding(table, place))][:1]


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
    return f"Its effect depends on {tables.listed(others)}." if others else ""


def _best(study: Study, metric: str, head: str) -> Iterator[Finding]:
    """The setting with the best selection score, with its test result beside the baseline's."""
    found = tables.headline(study, metric)
    if found is None or len(tables.by_preference(study)) < 2:
        return
    decimals = tables.decimals_of(study, metric)
    text = tables.cell_text(tables.Value(found.estimate, decimals=decimals))
    name, beside = next(iter(found.beside.items()), ("", None))
    if beside is not None:
        told = tables.cell_text(tables.Value(beside, signed=True, decimals=decimals))
        than = ARMS[name][0] if name in ARMS else "the baseline"
        same = beside.mean == 0 and beside.low is None
        text += f", as {than}" if same else f", {told} against {than}"
    yield Finding(BEST, None, f"{found.setting}: mean {head} {text}.")


def _rule(study: Study, metric: str, head: str, effect: float) -> str:
    """What the verdicts mean."""
    within = f"Equivalent: the 95% interval is within ±{points(effect)} of {head}"
    if tables.design_of(study, metric):
        return (
            f"Differs: from 0, by the study's own design (--detect). {within}. ±: 95% over seeds."
        )
    return (
        f"Decided: beyond the smallest effect of interest (Holm p of that < 0.05). {within}. ±: 95%"
        " over seeds, uncorrected."
    )


def cautions(study: Study, made: Sequence[Table]) -> Iterator[str]:
    """The cautions of a study, the gravest first.

    Args:
        study: whose answer it is.
        made: the tables that the answer is made from.
    """
    rule = tables.chosen_by(study.rows["selection"].to_list())
    if tables.on_test(rule):
        yield f"Selected on test data ({rule}), which flatters the numbers."
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."
    if any(_without_baseline(table) for table in made):
        yield "The baseline has not finished: nothing is compared with it."
    lacking = tables.Group((), study.rows).counts.absent()
    lacking += [f"{study.untried} settings not tried yet"] if study.untried else []
    if lacking:
        yield f"Not answered in full: of {len(study.rows)} rows, {', '.join(lacking)}."
    seeds = study.rows.filter(state=COMPLETE)["seed"].n_unique()
    if not seeds:
        yield "Nothing has finished."
    elif seeds < FEWEST_SEEDS:
        yield f"Only {seeds} seed{'' if seeds == 1 else 's'} finished: intervals are rough."


def _without_baseline(table: Table) -> bool:
    """Whether a table of levels or settings has results and no baseline to hold them against."""
    if table.kind not in ("levels", "effects", "settings") or table.place != "page":
        return False
    base, measured = table.baseline, any(table.metric in row.cells for row in table.own)
    return base is not None and table.metric not in base.cells and measured
