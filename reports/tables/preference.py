"""Settings as wholes: those that --path ran, and which of all selection would take."""

import dataclasses
from collections.abc import Sequence

import polars as pl

from reports.contract import COMPLETE
from reports.read import Study, heading
from reports.stats import is_rounding, scale_of
from reports.tables.groups import Group, factor_labels, setting_groups, spelled
from reports.tables.model import ADDED, Row


def without_added(study: Study) -> Study:
    """The study of its own settings, for whatever is about settings as a whole.

    Those that --path ran were chosen by results, and lie between two settings: among the levels of
    a grid, or the draws of a sampler, they would weigh some levels more than others.
    """
    kept = tuple(setting for setting in study.settings if not setting.added)
    if len(kept) == len(study.settings):
        return study
    keys = [setting.key for setting in kept]
    return dataclasses.replace(
        study,
        settings=kept,
        rows=study.rows.filter(pl.col("setting_key").is_in(keys)),
        aside=len(study.settings) - len(kept),
    )


def added_notes(rows: Sequence[Row]) -> list[str]:
    """What the mark beside such rows means; [] without any."""
    if not any(row.added for row in rows):
        return []
    return [
        f"{ADDED} run by --path, between the baseline and what selection preferred: asked for after"
        " results were known, by selection scores and not by test; selection may prefer it as any"
        " other setting"
    ]


MOST_TIED = 6  # settings that a sentence names


def by_preference(study: Study) -> list[tuple[float, Group]]:
    """(mean selection score, setting), the best first; settings without a score are left out."""
    score = f"selection/{study.objective}"
    found = []
    for group in setting_groups(study):
        values = group.known(score)
        if values and len(values) == group.count(COMPLETE):
            found.append((sum(values) / len(values), group))
    return found


def preferred(study: Study) -> list[Group]:
    """The settings with the best selection score: several where selection cannot tell them apart.

    Settings whose scores are one number but for rounding are tied. [] where none has a score.
    """
    return _best(by_preference(study))


def _best(found: Sequence[tuple[float, Group]]) -> list[Group]:
    tied = tied_first([score for score, _ in found])
    return [group for (_, group), one in zip(found, tied, strict=True) if one]


def tied_first(scores: Sequence[float]) -> list[bool]:
    """Of scores, the best first: which are the best one, but for rounding."""
    scale = scale_of(scores)
    return [is_rounding(scores[0] - score, scale) for score in scores]


def tied_names(names: Sequence[str]) -> str:
    """Tied settings in words, the first few of many: "2 tied settings: n_ctx 1; n_ctx 2"."""
    if len(names) < 2:
        return "".join(names)
    more = f" and {len(names) - MOST_TIED} more" if len(names) > MOST_TIED else ""
    return f"{len(names)} tied settings: {'; '.join(names[:MOST_TIED])}{more}"


def preferred_note(study: Study) -> list[str]:
    """A line that names the setting with the best selection score; [] where there are not two.

    A part of a study that leaves settings aside does not know which one that is.
    """
    found = by_preference(study) if study.factors and not study.aside else []
    if len(found) < 2:
        return []
    if len(tied := _best(found)) > 1:
        names = tied_names([spelled(one, factor_labels(study)) for one in tied])
        head = heading(study.protocol, study.objective)
        return [f"selection alone cannot choose among {names} (sel. {head} {found[0][0]:.1f})"]
    (best, group), (second, _) = found[:2]
    ran = ", which --path ran" if group.added else ""
    name = f"{spelled(group, factor_labels(study))}{ran}"
    head = heading(study.protocol, study.objective)
    return [
        f"selection alone would take {name}: sel. {head} {best:.1f}, {best - second:.1f} above the"
        " next"
    ]
