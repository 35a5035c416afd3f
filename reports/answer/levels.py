"""What is known of a factor's levels, against its baseline level."""

from collections.abc import Mapping, Sequence

from reports.answer.model import Finding
from reports.answer.words import (
    detectable,
    difference,
    differs,
    further,
    listed,
    name_of,
    p_words,
    points,
    signed,
)
from reports.stats import Decision, Judgement, Verdict, judge
from reports.tables import AVERAGE, LEVELS, Quantity, Row, Table, collapse_of

Judged = tuple[Row, Judgement | None]
_FOUND = {Verdict.DECIDED, Verdict.DIFFERS}
_DESIGNED: Mapping[Decision, Verdict] = {
    "differs": Verdict.DIFFERS,
    "equivalent": Verdict.EQUIVALENT,
    "open": Verdict.UNDECIDED,
    "constant": Verdict.UNDECIDED,
}


def levels_finding(table: Table, head: str, effect: float | None) -> Finding | None:
    """The finding of a table whose rows are levels, or methods over datasets.

    Args:
        table: with differences to its baseline; without any there is no finding.
        head: the metric's heading.
        effect: the smallest of interest, in points; None: nothing is judged.
    """
    base = next((row for row in table.rows if row.baseline), None)
    rows = [row for row in table.rows if row.section == LEVELS and difference(row)]
    if base is None or not rows:
        return None
    found = [one for one in judged(table, effect) if one[0] in rows and not one[0].unchanged]
    verdicts = [judgement.verdict for _, judgement in found if judgement]
    texts = [_unmoved(table, [row for row in rows if row.unchanged], base, head)]
    texts += [*_sentences(table, found, base, head, effect), detectable(rows)] if found else []
    subject = ", ".join(column.heading for column in table.columns[: table.labels])
    if table.kind == "methods":
        subject = f"{subject}, averaged over datasets"
    elif table.kind == "effects":
        subject = f"{subject}, averaged over the other factors"
    certain = bool(_FOUND & set(verdicts)) or any(differs(row) for row, _ in found)
    return Finding(subject, overall(verdicts), " ".join(filter(None, texts)), certain)


def _unmoved(table: Table, rows: Sequence[Row], base: Row, head: str) -> str:
    """The levels that changed no result, and the collapse that may be why; "" of none."""
    if not rows:
        return ""
    every = len(rows) > 1 and sum(difference(r) is not None for r in table.rows) == len(rows)
    who = "No level" if every else listed([name_of(table, row) for row in rows])
    changed = "changed any" if every else "changed no"
    found = sorted({int(n.number) for r in rows if isinstance(n := r.cells.get("pairs"), Quantity)})
    seeds = " to ".join(str(n) for n in dict.fromkeys([found[0], found[-1]]))
    text = (
        f"{who} {changed} {head}: under each of {seeds} seed{'' if seeds == '1' else 's'} it is"
        f" exactly that of {name_of(table, base)}."
    )
    keys = [table.name.removeprefix(f"{AVERAGE}-"), *(c.key for c in table.columns[: table.labels])]
    why = collapse_of([*rows, base]) if any(key.startswith("generator") for key in keys) else ""
    return f"{text} {why[0].upper()}{why[1:]} may be why." if why else text


def judged(table: Table, effect: float | None) -> list[Judged]:
    """Each row that has a difference with its judgement, None where nothing is judged.

    All rows of a table are one family, as they are for its p-values. What a study's own design has
    decided is not judged again.
    """
    rows = [row for row in table.rows if difference(row)]
    if any(row.decision for row in rows):
        return [(row, Judgement(_DESIGNED[row.decision or "open"])) for row in rows]
    if effect is None:
        return [(row, None) for row in rows]
    estimates = [cell.estimate if (cell := difference(row)) else None for row in rows]
    return list(zip(rows, judge(estimates, effect), strict=True))


def overall(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict on several rows: any that is decided decides, any that is open leaves it open."""
    for verdict in (Verdict.DECIDED, Verdict.DIFFERS, Verdict.UNDECIDED):
        if verdict in verdicts:
            return verdict
    return Verdict.EQUIVALENT if verdicts else None


def _sentences(
    table: Table, found: Sequence[Judged], base: Row, head: str, effect: float | None
) -> list[str]:
    than = name_of(table, base)
    if any(row.decision for row, _ in found):
        return _by_design(table, [row for row, _ in found], than, head)
    if effect is None:
        sure = [_named(table, r, p_words(r)) for r, _ in found if differs(r)]
        if sure:
            return [f"Against {than}, in {head}: {listed(sure)}."]
        if not any(p_words(row) for row, _ in found):
            return [f"Nothing tells whether levels differ from {than} in {head}."]
        return [f"No level differs from {than} in {head} beyond chance."]
    decided = [row for row, j in found if j and j.verdict is Verdict.DECIDED]
    within = [row for row, j in found if j and j.verdict is Verdict.EQUIVALENT]
    texts = []
    if len(within) == len(found):
        who = (
            "No level differs"
            if len(found) > 1
            else f"{name_of(table, found[0][0])} does not differ"
        )
        texts.append(f"{who} from {than} by more than {points(effect)} of {head}.")
    elif decided:
        named = listed([_named(table, row) for row in decided])
        texts.append(f"Against {than}, in points of {head}: {named}.")
    else:
        texts.append(f"Nothing is decided against {than}.")
    if 0 < len(within) < len(found):
        names = listed([name_of(table, row) for row in within])
        texts.append(f"Within {points(effect)} of {head}: {names}.")
    if small := [_named(table, r, p_words(r)) for r in within if differs(r)]:
        texts.append(f"Small, but beyond chance: {listed(small)}.")
    if still := [_open(table, row, j) for row, j in found if j and j.verdict is Verdict.UNDECIDED]:
        texts.append(f"Open: {listed(still)}.")
    return texts


def _by_design(table: Table, rows: Sequence[Row], than: str, head: str) -> list[str]:
    """What the comparisons of a study under --detect have come to, after how many seeds each."""
    words: Mapping[Decision, str] = {
        "differs": f"Different from {than}, in points of {head}",
        "equivalent": f"Equivalent to {than}",
        "open": "Undecided",
        "constant": "Without a spread, so that nothing is known of other seeds",
    }
    told = {
        decision: [_named(table, row, _after(row)) for row in rows if row.decision == decision]
        for decision in words
    }
    return [f"{words[decision]}: {listed(names)}." for decision, names in told.items() if names]


def _after(row: Row) -> str:
    pairs = row.cells.get("pairs")
    count = pairs.number if isinstance(pairs, Quantity) else 0
    return f"after {count:.0f} seed{'' if count == 1 else 's'}"


def _open(table: Table, row: Row, judgement: Judgement) -> str:
    """A row that is undecided: its difference, whether it is beyond chance, what would decide."""
    chance = f"beyond chance, {p_words(row)}" if differs(row) else ""
    told = ", ".join(part for part in (chance, further(judgement)) if part)
    return _named(table, row, told)


def _named(table: Table, row: Row, *beside: str) -> str:
    """A row with its difference and what is to be said of it: "8 (+0.5 ± 0.4, Holm p 0.030)"."""
    said = filter(None, [signed(row), *beside])
    return f"{name_of(table, row)} ({', '.join(said)})"
