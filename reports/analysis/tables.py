"""Importance, interactions and the path from the baseline as tables."""

import dataclasses
from collections.abc import Mapping, Sequence

from reports.analysis.analysis import Analysis
from reports.analysis.design import Unavailable
from reports.analysis.importance import Effect, Importance
from reports.analysis.interactions import Interaction
from reports.analysis.path import AblationPath, Step
from reports.read import Study, heading
from reports.stats import Estimate
from reports.tables import (
    Cell,
    Column,
    PValue,
    Quantity,
    Ranged,
    Row,
    Table,
    Text,
    Value,
    added_notes,
    chosen_by,
    decimals_of,
    head_notes,
    level_text,
    short_names,
    titled,
    unfinished_notes,
    without_added,
)

PATH_TABLE = "path"  # its name
MOST_MISSING = 6  # settings that a note names


def analysis_tables(analysis: Analysis) -> list[Table]:
    """The tables of a study's factors taken together; none of a study of one factor."""
    part, metric = analysis.subject, analysis.metric
    if isinstance(part, Unavailable) or len(part.factors) < 2:
        return []
    tables = []
    own = without_added(part)
    if isinstance(analysis.importance, Importance):
        tables.append(_importance(own, analysis.importance))
    pairs = analysis.interactions
    if not isinstance(pairs, Unavailable):
        tables += [_interactions(own, pairs, metric), _cells(own, pairs, metric)]
    if isinstance(analysis.path, AblationPath) and analysis.path.steps:
        tables.append(_path(part, analysis.path))
    return tables


def _importance(study: Study, found: Importance) -> Table:
    head, names = heading(study.protocol, found.metric), short_names(study)
    rows = [_effect(study, effect, names) for effect in (*found.factors, *found.pairs)]
    if found.rest is not None:
        label = "the rest" if found.sampled else "three and more factors together"
        rows.append(_row(study, {"effect": Text(label), "share": Ranged(found.rest, 0)}))
    columns = (
        Column("effect", "factor", "left"),
        Column("share", f"% of the variance of {head}"),
        Column("freedom", "df", drop=1),
        Column("p", "Holm p"),
    )
    notes = [*head_notes(study, rows), *_importance_notes(found, head), *unfinished_notes(study)]
    title = titled(study, "importance of factors", rows)
    return Table("importance", title, columns, tuple(rows), tuple(notes))


def _effect(study: Study, effect: Effect, names: Mapping[str, str]) -> Row:
    cells: dict[str, Cell] = {
        "effect": Text(" × ".join(names[key] for key in effect.factors)),
    }
    if effect.freedom:
        cells["freedom"] = Quantity(effect.freedom, 0)
    if effect.share is not None:
        cells["share"] = Ranged(effect.share, 0)
    if effect.holm is not None:
        cells["p"] = PValue(effect.holm)
    return _row(study, cells)


def _importance_notes(found: Importance, head: str) -> list[str]:
    """What the shares are of, what their intervals cover, and what has no part in them."""
    size = f"{found.settings} settings, {found.seeds} seed{'s' if found.seeds != 1 else ''}"
    notes = [
        f"shares of the variance of {head} between settings, without the part that is seeds' noise;"
        f" [jackknife 95% interval over seeds]; over {size}"
    ]
    if found.noise is not None:
        notes.append(f"seeds' noise is {found.noise:.0f}% of the variance of the settings' means")
    if found.sampled:
        notes.append(
            "ranges as cubic polynomials, each factor adjusted for the others; p by permuted"
            " residuals (Freedman-Lane), Holm over the factors; the rest: what factors do together,"
            " and what polynomials do not follow. A sampler that favours good settings makes these"
            " descriptive"
        )
    else:
        notes.append(
            "ANOVA of settings in blocks of seeds, each factor adjusted for the others; p of a"
            " factor by permuting its levels within seeds, of a pair by F; Holm over the factors"
            " and over the pairs. Without df: it cannot be told from others"
        )
    return [*notes, *([f"left out: {found.left_out}"] if found.left_out else [])]


def _interactions(study: Study, found: Sequence[Interaction], metric: str) -> Table:
    names = short_names(study)
    rows = []
    for pair in found:
        cells: dict[str, Cell] = {
            "pair": Text(" × ".join(names[key] for key in pair.factors)),
            "f": Text(f"{pair.statistic:.2f}", repr(pair.statistic)),
            "freedom": Text(f"{pair.freedom}, {pair.error_freedom}"),
        }
        if pair.holm is not None:
            cells["p"] = PValue(pair.holm)
        rows.append(_row(study, cells))
    columns = (
        Column("pair", "factors", "left"),
        Column("f", "F"),
        Column("freedom", "df", drop=1),
        Column("p", "Holm p"),
    )
    notes = [
        *head_notes(study, rows),
        f"whether the effect of one factor on {heading(study.protocol, metric)} depends on the"
        " other: the block ANOVA's F, with the pair's own interaction with seeds as its error; Holm"
        " over the pairs",
        *unfinished_notes(study),
    ]
    title = titled(study, "interactions of factors", rows)
    return Table("interactions", title, columns, tuple(rows), tuple(notes), place="files")


def _cells(study: Study, found: Sequence[Interaction], metric: str) -> Table:
    """Every two levels of every pair, for programs."""
    names, decimals = short_names(study), decimals_of(study, metric)
    rows = []
    for pair in found:
        labels = [Text(names[key]) for key in pair.factors]
        for cell in pair.cells.rows(named=True):
            estimate = Estimate(cell["mean"], cell["low"], cell["high"], cell["n"])
            cells: dict[str, Cell] = {
                "factor": labels[0],
                "level": Text(cell["first"]),
                "other": labels[1],
                "other_level": Text(cell["second"]),
                "mean": Value(estimate, decimals=decimals),
                "n": Quantity(cell["n"], 0),
                "settings": Quantity(cell["settings"], 0),
            }
            rows.append(_row(study, cells))
    columns = (
        *(Column(key, key.replace("_", " "), "left")
          for key in ("factor", "level", "other", "other_level")),
        Column("mean", heading(study.protocol, metric)),
        Column("n", "seeds"),
        Column("settings", "settings"),
    )  # fmt: skip
    title = titled(study, "means of every two levels", rows)
    return Table("interaction-cells", title, columns, tuple(rows), (), 4, place="csv")


def _path(study: Study, path: AblationPath) -> Table:
    head, objective = (heading(study.protocol, m) for m in (path.metric, study.objective))
    first: dict[str, Cell] = {"change": Text("baseline"), "score": Quantity(path.score)}
    made = [first, *(_step(study, step, path.metric) for step in path.steps)]
    added = {setting.key for setting in study.settings if setting.added}
    keys = [path.baseline_key, *(step.setting_key for step in path.steps)]
    rows = [
        dataclasses.replace(_row(study, cells), added=key in added)
        for cells, key in zip(made, keys, strict=True)
    ]
    columns = (
        Column("change", "change", "left"),
        Column("score", f"sel. {objective}"),
        Column("gain", "gain", drop=2),
        Column("difference", f"Δ{head}"),
        Column("pairs", "pairs", drop=3),
        Column("total", f"Δ{head} to baseline", drop=1),
    )
    notes = [
        *head_notes(study, rows),
        "from the baseline to the setting with the best selection score; each step changes the"
        f" factor that gains most in it, and test decides nothing. Δ{head}: to the row before,"
        " paired by seed, ± its 95% t-interval",
        *(
            [f"{path.tied} settings have that score; the path leads to the first of them"]
            if path.tied > 1
            else []
        ),
        *added_notes(rows),
        *_missing(study, path),
        *unfinished_notes(study),
    ]
    title = titled(study, "path from the baseline to what selection prefers", rows)
    return Table(PATH_TABLE, title, columns, tuple(rows), tuple(notes))


def _step(study: Study, step: Step, metric: str) -> dict[str, Cell]:
    names, decimals = short_names(study), decimals_of(study, metric)
    words = ", ".join(
        f"{names[c.factor]} {level_text(c.before)} → {level_text(c.after)}" for c in step.changes
    )
    cells: dict[str, Cell] = {
        "change": Text(words),
        "score": Quantity(step.score),
        "gain": Quantity(step.gain),
    }
    for key, comparison in (("difference", step.difference), ("total", step.total)):
        if comparison is not None:
            cells[key] = Value(comparison.difference, signed=True, decimals=decimals)
    if step.difference is not None:
        cells["pairs"] = Quantity(step.difference.difference.n, 0)
    return cells


def _missing(study: Study, path: AblationPath) -> list[str]:
    """The settings that might have given the path another turn."""
    if not path.missing:
        return []
    names = short_names(study)
    listed = [
        " ".join(f"{names[key]}={level_text(value)}" for key, value in sorted(one.items()))
        for one in path.missing[:MOST_MISSING]
    ]
    more = len(path.missing) - len(listed)
    rest = f" (and {more} more)" if more else ""
    return [f"not run, or not finished, on the way: {'; '.join(listed)}{rest}"]


def _row(study: Study, cells: Mapping[str, Cell]) -> Row:
    return Row(dict(cells), selection=chosen_by(study.rows["selection"].to_list()))
