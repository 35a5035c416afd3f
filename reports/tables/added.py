"""Settings that `ship-sweep --path` ran beside a study's own: which tables have them, and how."""

import dataclasses
from collections.abc import Sequence

import polars as pl

from reports.read import Setting, Study
from reports.tables.groups import Group
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


def is_added(group: Group) -> bool:
    """Whether a row is of a setting that --path ran."""
    return isinstance(group.value, Setting) and group.value.added


def added_notes(rows: Sequence[Row]) -> list[str]:
    """What the mark beside such rows means; [] without any."""
    if not any(row.added for row in rows):
        return []
    return [
        f"{ADDED} run by --path, between the baseline and what selection preferred: asked for after"
        " results were known, by selection scores and not by test; selection may prefer it as any"
        " other setting"
    ]
