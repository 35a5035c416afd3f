"""The tables of a study's factors taken together: importance and pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports import tables
from reports.analysis.importance import Effect, Importance
from reports.analysis.layout import available, subject
from reports.analysis.ped_anova import best_count
from reports.cells import (
    Cell,
    Column,
    PValue,
    Quantity,
    Ranged,
    Table,
    Text,
    Value,
    known,
)
from reports.stats import Estimate
from reports.study import Study, heading


def factor_tables(study: Study, metric: str, found: Importance | None) -> list[Table]:
    """The tables of a study's factors taken together; none of a study of one factor.

    Args:
        study: the study; one over datasets is taken by its averages.
        metric: of its test metrics.
        found: of the same; None where there is none.
    """
    part = available(subject, study, metric)
    if part is None or len(part.factors) < 2:
        return []
    made = []
    if found:
        make = _sampled_importance if found.over.sampled else _importance
        made.append(make(part, found))
    if found and found.interactions:
        made.append(_cells(part, found.interactions, metric))
    return made


def _importance(study: Study, found: Importance) -> Table:
    over, names = found.over, tables.short_names(study)
    head, seeds = heading(study.protocol, over.metric), len(over.seeds)
    shares = f"% of the variance of {head}"
    effects = [*found.factors, *found.pairs]
    if found.rest is not None:
        effects.append(Effect((), found.rest, 0, None))
    columns = [
        Column("effect", "factor", lambda one: Text(_named(one, names) or "the rest"), "left"),
        Column("share", shares, lambda one: known(Ranged, one.share, decimals=0)),
        Column(
            "freedom", "df", lambda one: known(Quantity, one.freedom or None, decimals=0), drop=1
        ),
        Column("p", "Holm p", lambda one: known(PValue, one.holm)),
    ]
    if any(effect.statistic is not None for effect in effects):
        columns.insert(3, Column("f", "F", lambda one: _statistic(one, seeds), drop=2))
    noise = f" ({found.noise:.0f}% of that of their means)" if found.noise is not None else ""
    notes = [
        f"shares of the variance of {head} between settings, without the part that is seeds' noise"
        f"{noise}; [jackknife 95% interval over"
        f" seeds]; over {len(over.settings)} settings, seeds: {seeds}. Without df: it cannot be"
        " told from others",
        "ANOVA of settings in blocks of seeds, each factor adjusted for the others; F with the"
        " effect's own interaction with seeds as its error, and Greenhouse and Geisser's degrees of"
        " freedom for unequal noise. Holm over the factors, and over the pairs",
    ]
    if over.lacking:
        notes.append(
            "configurations are missing: shares are of those at hand, and factors have no p,"
            " since part of an interaction would count as theirs"
        )
    return _importance_table(study, found, columns, effects, notes)


def _sampled_importance(study: Study, found: Importance) -> Table:
    over, names = found.over, tables.short_names(study)
    head, count = heading(study.protocol, over.metric), len(over.settings)

    def share(effect: Effect) -> Cell | None:
        return known(Quantity, effect.share and effect.share.mean, decimals=0)

    columns = [
        Column("effect", "factor", lambda one: Text(_named(one, names)), "left"),
        Column("share", "% of importance", share),
        Column("settings", "settings", lambda one: Quantity(count, 0)),
    ]
    notes = [
        f"PED-ANOVA (Optuna): a factor's share is large where its values among the"
        f" {best_count(count)} settings with the highest {head} differ from those among all"
        f" {count}; means over {len(over.seeds)} seeds",
        "this describes and tests nothing: shares sum to 100%, and a factor without any effect has"
        " one, too",
    ]
    return _importance_table(study, found, columns, found.factors, notes)


def _importance_table(
    study: Study,
    found: Importance,
    columns: Sequence[Column],
    effects: Sequence[Effect],
    notes: Sequence[str],
) -> Table:
    left_out = [f"left out: {found.over.left_out}"] if found.over.left_out else []
    title, name, every = "importance of factors", "importance", [*notes, *left_out]
    return tables.plain_table(study, name, title, columns, effects, every, place="files")


def _named(effect: Effect, names: Mapping[str, str]) -> str:
    return " × ".join(names[key] for key in effect.factors)


def _statistic(effect: Effect, seeds: int) -> Cell | None:
    """F with its degrees of freedom."""
    if effect.statistic is None:
        return None
    text = f"{effect.statistic:.2f} ({effect.tested:.3g}, {effect.tested * (seeds - 1):.3g})"
    return Text(text, repr(effect.statistic))


def _cells(study: Study, found: Sequence[Effect], metric: str) -> Table:
    """Every two levels of every pair, for programs."""
    names, decimals = tables.short_names(study), tables.decimals_of(study, metric)

    def mean(cell: Mapping[str, Any]) -> Cell:
        estimate = Estimate(*(cell[end] for end in ("mean", "low", "high", "n")))
        return Value(estimate, decimals=decimals)

    columns = [
        Column("factor", "factor", lambda cell: Text(names[cell["factor"]]), "left"),
        Column("level", "level", lambda cell: Text(cell["first"]), "left"),
        Column("other", "other", lambda cell: Text(names[cell["other"]]), "left"),
        Column("other_level", "other level", lambda cell: Text(cell["second"]), "left"),
        Column("mean", heading(study.protocol, metric), mean),
        Column("n", "seeds", lambda cell: Quantity(cell["n"], 0)),
        Column("settings", "settings", lambda cell: Quantity(cell["settings"], 0)),
    ]
    lines = [
        {**cell, "factor": pair.factors[0], "other": pair.factors[1]}
        for pair in found
        for cell in pair.cells
    ]
    title, name = "means of every two levels", "interaction-cells"
    return tables.plain_table(study, name, title, columns, lines, (), labels=4, place="csv")
