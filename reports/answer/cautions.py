"""What a reader must know before believing any of an answer."""

from collections import Counter
from collections.abc import Iterator, Sequence, Set

import polars as pl

from reports.contract import COMPLETE, FAIL, PRUNED
from reports.read import Study
from reports.tables import FEWEST_SEEDS, Table, on_test

_ENDS = {FAIL: "failed", PRUNED: "stopped early"}
_INCOMPLETE = "incomplete"


def cautions(study: Study, tables: Sequence[Table]) -> Iterator[str]:
    """The cautions of a study, the gravest first.

    Args:
        study: whose answer it is.
        tables: that the answer is made from.
    """
    yield from _leaks(study)
    if study.demonstration:
        yield "Demonstration backbone: this says nothing about CLIP."
    if any(_without_baseline(table) for table in tables):
        yield "The baseline has not finished: nothing is compared with it."
    yield from _lacking(study)
    done = study.rows.filter(study.rows["state"] == COMPLETE)
    seeds = done["seed"].n_unique()
    if not seeds:
        yield "Nothing has finished."
    elif seeds < FEWEST_SEEDS:
        yield f"Only {seeds} seed{'' if seeds == 1 else 's'} finished: intervals are rough."


def _leaks(study: Study) -> Iterator[str]:
    rules = {str(rule) for rule in study.rows["selection"].to_list() if rule}
    leaking = {rule for rule in rules if on_test(rule)}
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
