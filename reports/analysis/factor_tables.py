"""Tables on all factors of a study: their importance, and means for each pair of levels."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports import tables
from reports.analysis.design import compute_if_available, select_analyzed_study
from reports.analysis.importance import Effect, Importance
from reports.analysis.ped_anova import count_best
from reports.cells import (
    Cell,
    Column,
    PValue,
    Quantity,
    Ranged,
    Table,
    Text,
    Value,
    make_optional_cell,
)
from reports.stats import Estimate
from reports.study import Study, get_metric_heading


def build_factor_tables(study: Study, metric: str, importance: Importance | None) -> list[Table]:
    """Return the table of the factors' importance and, on a grid, the table of pairs of levels.

    Args:
        study: The study. A study over datasets is represented by its averages.
        metric: Name of a test metric.
        importance: Importance of the factors for the metric. None if it cannot be computed.

    Returns:
        The tables; [] if the importance is None or the study has fewer than two factors.
    """
    analyzed_study = compute_if_available(select_analyzed_study, study, metric)
    if importance is None or analyzed_study is None or len(analyzed_study.factors) < 2:
        return []
    build_table = _build_sampled_table if importance.design.is_sampled else _build_grid_table
    effect_tables = [build_table(analyzed_study, importance)]
    if importance.interactions:
        effect_tables.append(_build_cell_table(analyzed_study, importance.interactions, metric))
    return effect_tables


def _build_grid_table(study: Study, importance: Importance) -> Table:
    """Return the table of the factors' shares of the variance on a grid."""
    design, names = importance.design, tables.shorten_factor_names(study)
    heading, n_seeds = get_metric_heading(study.protocol, design.metric), len(design.seeds)
    share_heading = f"% of the variance of {heading}"
    effects = [*importance.factors, *importance.pairs]
    if importance.rest is not None:
        effects.append(Effect((), importance.rest, 0, None))
    columns = [
        Column(
            "effect",
            "factor",
            lambda effect: Text(_format_factors(effect, names) or "remainder"),
            "left",
        ),
        Column(
            "share",
            share_heading,
            lambda effect: make_optional_cell(Ranged, effect.share, decimals=0),
        ),
        Column(
            "freedom",
            "df",
            lambda effect: make_optional_cell(
                Quantity, effect.degrees_of_freedom or None, decimals=0
            ),
            drop=1,
        ),
        Column("p", "Holm p", lambda effect: make_optional_cell(PValue, effect.holm_p)),
    ]
    if any(effect.statistic is not None for effect in effects):
        columns.insert(3, Column("f", "F", lambda effect: _make_f_cell(effect, n_seeds), drop=2))
    noise = ""
    if importance.noise is not None:
        noise = f" ({importance.noise:.0f}% of the variance between their means)"
    notes = [
        f"share: part of the variance of {heading} between configurations, after subtracting the"
        f" noise of seeds{noise}; [jackknife 95% interval over seeds]. Configurations:"
        f" {len(design.configurations)}, seeds: {n_seeds}. An effect without df is confounded"
        " with others",
        "ANOVA with seeds as blocks, each factor adjusted for the others. F: the effect is tested"
        " against its interaction with seeds, with Greenhouse and Geisser's degrees of freedom for"
        " unequal noise. p: Holm-corrected over the factors, and over the pairs",
    ]
    if design.n_left_out:
        notes.append(
            "configurations are missing: shares are computed from the others, and factors have no"
            " p, because part of an interaction would be attributed to them"
        )
    return _build_importance_table(study, importance, columns, effects, notes)


def _build_sampled_table(study: Study, importance: Importance) -> Table:
    """Return the table of PED-ANOVA importances of a sampled study."""
    design, names = importance.design, tables.shorten_factor_names(study)
    heading, n = get_metric_heading(study.protocol, design.metric), len(design.configurations)

    def make_share_cell(effect: Effect) -> Cell | None:
        return make_optional_cell(Quantity, effect.share and effect.share.mean, decimals=0)

    columns = [
        Column("effect", "factor", lambda effect: Text(_format_factors(effect, names)), "left"),
        Column("share", "% of importance", make_share_cell),
        Column("configurations", "configurations", lambda effect: Quantity(n, 0)),
    ]
    notes = [
        "PED-ANOVA (Optuna's PedAnovaImportanceEvaluator): a factor has a large share if its values"
        f" in the {count_best(n)} configurations with the highest {heading} differ from its values"
        f" in all {n}; {heading} is the mean over {len(design.seeds)} seeds",
        "this is a description, not a test: shares sum to 100%, and even a factor without any"
        " effect has a share",
    ]
    return _build_importance_table(study, importance, columns, importance.factors, notes)


def _build_importance_table(
    study: Study,
    importance: Importance,
    columns: Sequence[Column],
    effects: Sequence[Effect],
    notes: Sequence[str],
) -> Table:
    """Return a table of effects, with a last note on the results that are left out, if any."""
    left_out = [f"left out: {importance.design.gaps}"] if importance.design.gaps else []
    title, name, all_notes = "importance of factors", "importance", [*notes, *left_out]
    return tables.make_plain_table(study, name, title, columns, effects, all_notes, place="files")


def _format_factors(effect: Effect, names: Mapping[str, str]) -> str:
    """Return the short names of an effect's factors: "n_ctx × lr"; "" without factors."""
    return " × ".join(names[key] for key in effect.factors)


def _make_f_cell(effect: Effect, n_seeds: int) -> Cell | None:
    """Return the cell of F with its degrees of freedom: "4.21 (2, 8)"; None without a test."""
    if effect.statistic is None:
        return None
    denominator_df = effect.numerator_df * (n_seeds - 1)
    text = f"{effect.statistic:.2f} ({effect.numerator_df:.3g}, {denominator_df:.3g})"
    return Text(text, repr(effect.statistic))


def _build_cell_table(study: Study, pairs: Sequence[Effect], metric: str) -> Table:
    """Return the table of the mean of each combination of two levels. It is only in CSV files.

    Args:
        study: The study.
        pairs: Effects of pairs of factors that have cells (see Effect.cells).
        metric: Name of the test metric of the means.
    """
    names, decimals = tables.shorten_factor_names(study), tables.get_decimals(study, metric)

    def make_mean_cell(cell: Mapping[str, Any]) -> Cell:
        estimate = Estimate(cell["mean"], cell["low"], cell["high"], cell["n"])
        return Value(estimate, decimals=decimals)

    columns = [
        Column("factor", "factor", lambda cell: Text(names[cell["factor"]]), "left"),
        Column("level", "level", lambda cell: Text(cell["first"]), "left"),
        Column("other", "other factor", lambda cell: Text(names[cell["other"]]), "left"),
        Column("other_level", "other level", lambda cell: Text(cell["second"]), "left"),
        Column("mean", get_metric_heading(study.protocol, metric), make_mean_cell),
        Column("n", "seeds", lambda cell: Quantity(cell["n"], 0)),
        Column(
            "configurations", "configurations", lambda cell: Quantity(cell["configurations"], 0)
        ),
    ]
    cells = [
        {**cell, "factor": pair.factors[0], "other": pair.factors[1]}
        for pair in pairs
        for cell in pair.cells
    ]
    title, name = "means of every combination of two levels", "interaction-cells"
    return tables.make_plain_table(study, name, title, columns, cells, (), n_labels=4, place="csv")
