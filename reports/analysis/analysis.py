"""Everything that is computed of a study's settings together, when it is asked for; its tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from reports.analysis.dependence import partial_dependence
from reports.analysis.importance import Importance, Interaction, importance
from reports.analysis.layout import Unavailable, subject
from reports.analysis.path import AblationPath, Step, ablation_path
from reports.analysis.training import budget_correlation, cost_against, learning_curves
from reports.read import Study, heading
from reports.stats import Estimate
from reports.tables import (
    Cells,
    Column,
    PValue,
    Quantity,
    Ranged,
    Table,
    Text,
    Value,
    added_notes,
    decimals_of,
    known,
    level_text,
    plain_table,
    short_names,
    without_added,
)

PATH_TABLE = "path"  # its name
MOST_MISSING = 6  # settings that a note names

Part = TypeVar("Part")


def _part(compute: Callable[[Study, str], Part]) -> "cached_property[Part | None]":
    """A part of an Analysis; None where it is Unavailable."""

    def found(analysis: "Analysis") -> Part | None:
        try:
            return compute(analysis.study, analysis.metric)
        except Unavailable:
            return None

    return cached_property(found)


@dataclass(frozen=True)
class Analysis:
    """Of a study; each part is computed once, and None where it cannot be.

    study: as it was read. metric: of its test metrics; the study has a heading for it.
    subject: the study that is analysed: one over datasets by its averages.
    """

    study: Study
    metric: str

    subject = _part(subject)
    importance = _part(importance)
    dependence = _part(partial_dependence)
    path = _part(ablation_path)
    costs = _part(cost_against)
    curves = _part(lambda study, _: learning_curves(study))
    budget = _part(lambda study, _: budget_correlation(study))

    @property
    def interactions(self) -> tuple[Interaction, ...]:
        """Of pairs of a grid's factors."""
        return self.importance.interactions if self.importance else ()


def analysis_tables(analysis: Analysis) -> list[Table]:
    """The tables of a study's factors taken together; none of a study of one factor."""
    part, metric = analysis.subject, analysis.metric
    if part is None or len(part.factors) < 2:
        return []
    tables, own = [], without_added(part)
    if analysis.importance:
        tables.append(_importance(own, analysis.importance))
    if pairs := analysis.interactions:
        tables += [_interactions(own, pairs, metric), _cells(own, pairs, metric)]
    if analysis.path and analysis.path.steps:
        tables.append(_path(part, analysis.path))
    return tables


def _importance(study: Study, found: Importance) -> Table:
    head, names = heading(study.protocol, found.metric), short_names(study)
    rows: list[Cells] = [
        {
            "effect": Text(" × ".join(names[key] for key in effect.factors)),
            "freedom": known(Quantity, effect.freedom or None, 0),
            "share": known(Ranged, effect.share, 0),
            "p": known(PValue, effect.holm),
        }
        for effect in (*found.factors, *found.pairs)
    ]
    if found.rest is not None:
        label = "the rest" if found.sampled else "three and more factors together"
        rows.append({"effect": Text(label), "share": Ranged(found.rest, 0)})
    columns = (
        Column("effect", "factor", "left"),
        Column("share", f"% of the variance of {head}"),
        Column("freedom", "df", drop=1),
        Column("p", "Holm p"),
    )
    notes = list(_importance_notes(found, head))
    return plain_table(study, "importance", "importance of factors", columns, rows, notes)


def _importance_notes(found: Importance, head: str) -> Iterator[str]:
    """What the shares are of, what their intervals cover, and what has no part in them."""
    size = f"{found.settings} settings, {found.seeds} seed{'s' if found.seeds != 1 else ''}"
    yield (
        f"shares of the variance of {head} between settings, without the part that is seeds' noise;"
        f" [jackknife 95% interval over seeds]; over {size}"
    )
    if found.noise is not None:
        yield f"seeds' noise is {found.noise:.0f}% of the variance of the settings' means"
    if found.sampled:
        yield (
            "ranges as cubic polynomials, each factor adjusted for the others; p by permuted"
            " residuals (Freedman-Lane), Holm over the factors; the rest: what factors do together,"
            " and what polynomials do not follow. A sampler that favours good settings makes these"
            " descriptive"
        )
    else:
        yield (
            "ANOVA of settings in blocks of seeds, each factor adjusted for the others; p of a"
            " factor by permuting its levels within seeds, of a pair by F; Holm over the factors"
            " and over the pairs. Without df: it cannot be told from others"
        )
    if found.left_out:
        yield f"left out: {found.left_out}"


def _interactions(study: Study, found: Sequence[Interaction], metric: str) -> Table:
    names = short_names(study)
    rows: list[Cells] = [
        {
            "pair": Text(" × ".join(names[key] for key in pair.factors)),
            "f": Text(f"{pair.statistic:.2f}", repr(pair.statistic)),
            "freedom": Text(f"{pair.freedom}, {pair.error_freedom}"),
            "p": known(PValue, pair.holm),
        }
        for pair in found
    ]
    columns = (
        Column("pair", "factors", "left"),
        Column("f", "F"),
        Column("freedom", "df", drop=1),
        Column("p", "Holm p"),
    )
    note = (
        f"whether the effect of one factor on {heading(study.protocol, metric)} depends on the"
        " other: the block ANOVA's F, with the pair's own interaction with seeds as its error; Holm"
        " over the pairs"
    )
    title, place = "interactions of factors", "files"
    return plain_table(study, "interactions", title, columns, rows, [note], place=place)


def _cells(study: Study, found: Sequence[Interaction], metric: str) -> Table:
    """Every two levels of every pair, for programs."""
    names, decimals = short_names(study), decimals_of(study, metric)
    rows: list[Cells] = [
        {
            "factor": Text(names[pair.factors[0]]),
            "level": Text(cell["first"]),
            "other": Text(names[pair.factors[1]]),
            "other_level": Text(cell["second"]),
            "mean": Value(
                Estimate(cell["mean"], cell["low"], cell["high"], cell["n"]), decimals=decimals
            ),
            "n": Quantity(cell["n"], 0),
            "settings": Quantity(cell["settings"], 0),
        }
        for pair in found
        for cell in pair.cells
    ]
    labels = ("factor", "level", "other", "other_level")
    columns = (
        *(Column(key, key.replace("_", " "), "left") for key in labels),
        Column("mean", heading(study.protocol, metric)),
        Column("n", "seeds"),
        Column("settings", "settings"),
    )
    title, name = "means of every two levels", "interaction-cells"
    return plain_table(study, name, title, columns, rows, (), labels=4, place="csv")


def _path(study: Study, path: AblationPath) -> Table:
    head, objective = (heading(study.protocol, m) for m in (path.metric, study.objective))
    names, decimals = short_names(study), decimals_of(study, path.metric)
    rows: list[Cells] = [{"change": Text("baseline"), "score": Quantity(path.score)}]
    rows += [_step(step, names, decimals) for step in path.steps]
    ran = {setting.key for setting in study.settings if setting.added}
    keys = [path.baseline_key, *(step.setting_key for step in path.steps)]
    about = [{"added": key in ran} for key in keys]
    columns = (
        Column("change", "change", "left"),
        Column("score", f"sel. {objective}"),
        Column("gain", "gain", drop=2),
        Column("difference", f"Δ{head}"),
        Column("pairs", "pairs", drop=3),
        Column("total", f"Δ{head} to baseline", drop=1),
    )
    notes = [
        "from the baseline to the setting with the best selection score; each step changes the"
        f" factor that gains most in it, and test decides nothing. Δ{head}: to the row before,"
        " paired by seed, ± its 95% t-interval"
    ]
    if path.tied > 1:
        notes.append(f"{path.tied} settings have that score; the path leads to the first of them")
    notes += added_notes(key in ran for key in keys)
    if path.missing:
        listed = [
            " ".join(f"{names[key]}={level_text(value)}" for key, value in sorted(one.items()))
            for one in path.missing[:MOST_MISSING]
        ]
        more = len(path.missing) - len(listed)
        rest = f" (and {more} more)" if more else ""
        notes.append(f"not run, or not finished, on the way: {'; '.join(listed)}{rest}")
    title = "path from the baseline to what selection prefers"
    return plain_table(study, PATH_TABLE, title, columns, rows, notes, about=about)


def _step(step: Step, names: Mapping[str, str], decimals: int) -> Cells:
    words = ", ".join(
        f"{names[c.factor]} {level_text(c.before)} → {level_text(c.after)}" for c in step.changes
    )
    return {
        "change": Text(words),
        "score": Quantity(step.score),
        "gain": Quantity(step.gain),
        "difference": known(Value, step.difference, True, decimals),
        "pairs": known(Quantity, step.difference and step.difference.n, 0),
        "total": known(Value, step.total, True, decimals),
    }
