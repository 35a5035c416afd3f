"""What is known of a factor's levels, and of the reference arms, against the baseline."""

from collections.abc import Mapping, Sequence

from reports.answer.words import (
    Finding,
    detectable,
    further,
    listed,
    p_words,
    points,
    signed,
)
from reports.contract import ARMS, RIVALS
from reports.read import Study
from reports.stats import Decision, Verdict
from reports.tables import AVERAGE, Compared, Row, Table, collapse_of

# A row's level, and what is known of its difference to the baseline.
Told = tuple[str, Compared]
_SURE = (Verdict.DECIDED, Verdict.DIFFERS)
_OVER = {"methods": ", averaged over datasets", "effects": ", averaged over the other factors"}
_CEILING = "real_pictures"


def levels_finding(table: Table, head: str, effect: float | None) -> Finding | None:
    """The finding of a table whose rows are levels, or methods over datasets.

    Args:
        table: with differences to its baseline; without any there is no finding.
        head: the metric's heading.
        effect: the smallest of interest, in points; None: nothing is judged.
    """
    base = table.baseline
    told = [(row.level, row.compared) for row in table.own if row.compared]
    if base is None or not told:
        return None
    found = [(level, compared) for level, compared in told if not compared.unchanged]
    texts = [_unmoved(table, base, head)]
    if found:
        texts += _sentences(found, base.level, head, effect)
        texts.append(detectable([compared for _, compared in told]))
    subject = ", ".join(column.heading for column in table.columns[: table.labels])
    subject += _OVER.get(table.kind, "")
    verdicts = [compared.verdict for _, compared in found]
    certain = any(compared.differs or compared.verdict in _SURE for _, compared in found)
    return Finding(subject, overall(verdicts), " ".join(filter(None, texts)), certain)


def _unmoved(table: Table, base: Row, head: str) -> str:
    """The levels that changed no result, and the collapse that may be why; "" of none."""
    compared = [(row, row.compared) for row in table.rows if row.compared]
    same = [(row, one) for row, one in compared if one.unchanged and not row.arm]
    if not same:
        return ""
    who, changed = listed([row.level for row, _ in same]), "changed no"
    if 1 < len(same) == len(compared):
        who, changed = "No level", "changed any"
    pairs = sorted({one.difference.n for _, one in same})
    seeds = " to ".join(str(n) for n in sorted({pairs[0], pairs[-1]}))
    text = (
        f"{who} {changed} {head}: under each of {seeds} seed{'' if seeds == '1' else 's'} it is"
        f" exactly that of {base.level}."
    )
    keys = [table.name.removeprefix(f"{AVERAGE}-"), *(c.key for c in table.columns[: table.labels])]
    of_generator = any(key.startswith("generator") for key in keys)
    why = collapse_of([*(row for row, _ in same), base]) if of_generator else ""
    return f"{text} {why[0].upper()}{why[1:]} may be why." if why else text


def overall(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """The verdict on several rows: any that is decided decides, any that is open leaves it open."""
    order = (*_SURE, Verdict.UNDECIDED, Verdict.EQUIVALENT)
    return next((verdict for verdict in order if verdict in verdicts), None)


def _sentences(found: Sequence[Told], than: str, head: str, effect: float | None) -> list[str]:
    if any(compared.decision for _, compared in found):
        return _by_design(found, than, head)
    if effect is None:
        if sure := [_named(one, p_words(one[1].p)) for one in found if one[1].differs]:
            return [f"Against {than}, in {head}: {listed(sure)}."]
        if all(compared.p is None for _, compared in found):
            return [f"Nothing tells whether levels differ from {than} in {head}."]
        return [f"No level differs from {than} in {head} beyond chance."]
    of = {verdict: [one for one in found if one[1].verdict is verdict] for verdict in Verdict}
    decided, within = of[Verdict.DECIDED], of[Verdict.EQUIVALENT]
    texts = []
    if len(within) == len(found):
        who = "No level differs" if len(found) > 1 else f"{found[0][0]} does not differ"
        texts.append(f"{who} from {than} by more than {points(effect)} of {head}.")
    elif decided:
        named = listed([_named(one) for one in decided])
        texts.append(f"Against {than}, in points of {head}: {named}.")
    else:
        texts.append(f"Nothing is decided against {than}.")
    if 0 < len(within) < len(found):
        names = listed([level for level, _ in within])
        texts.append(f"Within {points(effect)} of {head}: {names}.")
    if small := [_named(one, p_words(one[1].p)) for one in within if one[1].differs]:
        texts.append(f"Small, but beyond chance: {listed(small)}.")
    if still := [_open(one) for one in of[Verdict.UNDECIDED]]:
        texts.append(f"Open: {listed(still)}.")
    return texts


def _by_design(found: Sequence[Told], than: str, head: str) -> list[str]:
    """What the comparisons of a study under --detect have come to, after how many seeds each."""
    words: Mapping[Decision, str] = {
        "differs": f"Different from {than}, in points of {head}",
        "equivalent": f"Equivalent to {than}",
        "open": "Undecided",
        "constant": "Without a spread, so that nothing is known of other seeds",
    }
    texts = []
    for decision, told in words.items():
        of = [(one, one[1].difference.n) for one in found if one[1].decision == decision]
        names = [_named(one, f"after {n} seed{'' if n == 1 else 's'}") for one, n in of]
        texts += [f"{told}: {listed(names)}."] if names else []
    return texts


def _open(one: Told) -> str:
    """A row that is undecided: its difference, whether it is beyond chance, what would decide."""
    compared = one[1]
    chance = f"beyond chance, {p_words(compared.p)}" if compared.differs else ""
    return _named(one, ", ".join(part for part in (chance, further(compared)) if part))


def _named(one: Told, *beside: str) -> str:
    """A row with its difference and what is to be said of it: "8 (+0.5 ± 0.4, Holm p 0.030)"."""
    level, compared = one
    return f"{level} ({', '.join(filter(None, [signed(compared), *beside]))})"


def arms_finding(study: Study, table: Table, place: str = "") -> Finding | None:
    """The finding of a table with reference arms beside its baseline.

    Args:
        study: whose table it is.
        table: with differences of the arms to its baseline; without any there is no finding.
        place: what the subject ends in, such as the dataset that the arms ran on.
    """
    base = table.baseline
    found = {
        row.arm: row.compared
        for row in table.rows
        if row.arm and row.compared and not _same(row.compared)
    }
    rivals = {arm: found[arm] for arm in RIVALS if arm in found}
    if base is None or base.arm or not rivals:
        return None
    parts = []
    for arm, compared in rivals.items():
        told = [p_words(compared.p), str(compared.verdict or ""), further(compared)]
        beside = "; ".join(part for part in told if part)
        parts.append(f"{signed(compared, turned=True)} against {ARMS[arm][0]} ({beside})")
    texts = [f"{'; '.join(parts)}."]
    if _CEILING in found:
        texts.append(_room(found[_CEILING]))
    subject = _subject(study, base.name) + place
    # The first rival's verdict tells whether synthesis helps at all.
    return Finding(subject, overall([next(iter(rivals.values())).verdict]), " ".join(texts))


def _room(ceiling: Compared) -> str:
    """How far real pictures are ahead of the baseline, if that can be told."""
    low, high = ceiling.difference.low, ceiling.difference.high
    text = f"Real pictures differ from it by {signed(ceiling)}"
    if low is None or high is None:
        return f"{text}: whether better features could gain anything on other seeds is not known."
    if low > 0:
        return f"{text}: the most that better features could gain."
    if high < 0:
        return f"{text}: they are worse, so better features promise no gain."
    return f"{text}: whether better features could gain anything cannot be told."


def _same(compared: Compared) -> bool:
    """Whether an arm has no difference to the baseline."""
    return compared.difference.mean == 0 and compared.difference.low is None


def _subject(study: Study, baseline: str) -> str:
    varied = {factor.key for factor in study.factors} & {"generator", "generator.name"}
    ship = study.constants.get("generator.name") == "vae" and not varied
    return f"SHIP ({baseline})" if ship and baseline else baseline or "the study's setting"
