"""The tables of a study's factors taken together: importance, pairs, and the path."""

from collections.abc import Mapping, Sequence

from reports import tables
from reports.analysis.importance import Effect, Importance
from reports.analysis.layout import available, subject
from reports.analysis.path import AblationPath, Stop, ablation_path
from reports.cells import (
    Cell,
    Cells,
    Column,
    PValue,
    Quantity,
    Ranged,
    Table,
    Text,
    Value,
    known,
    level_text,
)
from reports.formatting import listed
from reports.read import Study, heading
from reports.stats import Estimate


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
    made, own = [], tables.without_added(part)
    if found:
        made.append(_importance(own, found))
    if found and found.interactions:
        made.append(_cells(own, found.interactions, metric))
    path = available(ablation_path, study, metric)
    if path and len(path.stops) > 1:
        made.append(_path(part, path))
    return made


def _importance(study: Study, found: Importance) -> Table:
    over, names = found.over, tables.short_names(study)
    head, seeds = heading(study.protocol, over.metric), len(over.seeds)
    rows: list[Cells] = [
        {
            "effect": Text(" × ".join(names[key] for key in effect.factors)),
            "share": known(Ranged, effect.share, decimals=0),
            "freedom": known(Quantity, effect.freedom or None, decimals=0),
            "f": _statistic(effect, seeds),
            "p": known(PValue, effect.holm),
        }
        for effect in (*found.factors, *found.pairs)
    ]
    if found.rest is not None:
        rows.append({"effect": Text("the rest"), "share": Ranged(found.rest, 0)})
    columns = (
        Column("effect", "factor", "left"),
        Column("share", f"% of the variance of {head}"),
        Column("freedom", "df", drop=1),
        *([Column("f", "F", drop=2)] if found.interactions else []),
        Column("p", "Holm p"),
    )
    noise = f" ({found.noise:.0f}% of that of their means)" if found.noise is not None else ""
    kind = (
        "ranges as cubic polynomials, each factor adjusted for the others; p by permuted residuals"
        " (Freedman-Lane). A sampler that favours good settings makes these descriptive"
        if over.sampled
        else "ANOVA of settings in blocks of seeds, each factor adjusted for the others; p of a"
        " factor by permuting its levels within seeds, of a pair by F with the pair's own"
        " interaction with seeds as its error"
    )
    notes = [
        f"shares of the variance of {head} between settings, without the part that is seeds' noise"
        f"{noise}; [jackknife 95% interval over"
        f" seeds]; over {len(over.settings)} settings, seeds: {seeds}. Without df: it cannot be"
        " told from others",
        f"{kind}. Holm over the factors, and over the pairs",
    ]
    notes += [f"left out: {over.left_out}"] if over.left_out else []
    title, name = "importance of factors", "importance"
    return tables.plain_table(study, name, title, columns, rows, notes, place="files")


def _statistic(effect: Effect, seeds: int) -> Cell | None:
    """F of a pair with its degrees of freedom."""
    if effect.statistic is None:
        return None
    text = f"{effect.statistic:.2f} ({effect.tested}, {effect.tested * (seeds - 1)})"
    return Text(text, repr(effect.statistic))


def _cells(study: Study, found: Sequence[Effect], metric: str) -> Table:
    """Every two levels of every pair, for programs."""
    names, decimals = tables.short_names(study), tables.decimals_of(study, metric)
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
    return tables.plain_table(study, name, title, columns, rows, (), labels=4, place="csv")


def _path(study: Study, path: AblationPath) -> Table:
    head, objective = (heading(study.protocol, m) for m in (path.metric, study.objective))
    names, decimals = tables.short_names(study), tables.decimals_of(study, path.metric)
    rows = [_stop(stop, names, decimals) for stop in path.stops]
    ran = {setting.key for setting in study.settings if setting.added}
    about = [{"added": stop.setting_key in ran} for stop in path.stops]
    columns = (
        Column("change", "change", "left"),
        Column("score", f"sel. {objective}"),
        Column("gain", "gain", drop=2),
        Column("difference", f"Δ{head}"),
        Column("pairs", "pairs", drop=3),
        Column("total", f"Δ{head} to baseline", drop=1),
    )
    tied = f", the first of {path.tied} with it" if path.tied > 1 else ""
    notes = [
        f"from the baseline to the setting with the best selection score{tied}; each step changes"
        f" the factor that gains most in it, and test decides nothing. Δ{head}: to the row before,"
        " paired by seed"
    ]
    if path.missing:
        lacking = [
            " ".join(f"{names[key]}={level_text(value)}" for key, value in sorted(one.items()))
            for one in path.missing
        ]
        notes.append(f"not run, or not finished, on the way: {listed(lacking, '; ')}")
    title = "path from the baseline to what selection prefers"
    place = "page" if any(one["added"] for one in about) else "files"
    return tables.plain_table(study, "path", title, columns, rows, notes, about=about, place=place)


def _stop(stop: Stop, names: Mapping[str, str], decimals: int) -> Cells:
    words = ", ".join(
        f"{names[key]} {level_text(before)} → {level_text(after)}"
        for key, (before, after) in stop.changes.items()
    )
    return {
        "change": Text(words or "baseline"),
        "score": Quantity(stop.score),
        "gain": known(Quantity, stop.gain),
        "difference": known(Value, stop.difference, signed=True, decimals=decimals),
        "pairs": known(Quantity, stop.difference and stop.difference.n, decimals=0),
        "total": known(Value, stop.total, signed=True, decimals=decimals),
    }
