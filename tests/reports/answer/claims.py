"""What an answer claims, sentence by sentence, against results and effects that are known.

A sentence of fact (a tie, a count, a level that changed nothing, a difference that was seen) is
false where the runs say otherwise. A sentence at a level (decided, equivalent, beyond chance, an
interaction, a share, a correlation) is false where the truth has no such thing; that may happen as
often as the level promises, but never where the results are the same bit for bit. Nothing here uses
the code under test: numbers are read from the runs, and the truth is what they were made from.
"""

import re
from typing import Any

from reports.answer import Answer, Finding
from tests.reports.answer.claims_beside import arms, best, cautions, ranks, shares
from tests.reports.answer.known import NUMBER, SHOWN, SMALLEST, Claims, Known, number, parsed

_ITEM = re.compile(rf"(?P<level>\d+)(?: \((?P<mean>{NUMBER})(?P<beside>[^)]*)\))?")


def check(known: Known, answer: Answer, found: Claims) -> None:
    """Add what an answer claims to what others did."""
    for finding in answer.findings:
        if finding.subject == "best setting by selection":
            best(known, finding.text, found)
        elif finding.subject == "importance":
            pass  # read below, in studies without one, too
        elif finding.subject == "factors, varied together":
            ranks(known, finding.text, found)
        elif finding.subject.split(",")[0] in {
            f["key"].split(".")[-1] for f in known.builder.factors
        }:
            _levels(known, finding, found)
        else:
            arms(known, finding.text, found)
    told = [finding.text for finding in answer.findings if finding.subject == "importance"]
    if len(known.builder.factors) > 1:
        shares(known, " ".join(told), found)
    cautions(known, answer.cautions, found)


def _levels(known: Known, finding: Finding, found: Claims) -> None:
    key = finding.subject.split(",")[0]
    factor = known.factor(key)
    key, base = factor["key"], factor["baseline"]
    others = [
        level for level in factor["levels"] if level != base and known.pairs(key, level, base)
    ]
    still = [level for level in others if known.same(key, level, base)]
    said = parsed(finding.text, "factor", found)
    text = f"{finding.subject}: {finding.text}"

    def named(kind: str) -> dict[int, re.Match[str]]:
        return (
            {int(m["level"]): m for m in _ITEM.finditer(said[kind]["who"])} if kind in said else {}
        )

    same, decided, left, equal = map(named, ("same", "decided", "open", "equivalent"))
    if sorted(same) != sorted(still):
        found.facts.append(f"levels that changed nothing are {still}: {text}")
    told = {**decided, **left, **equal}
    chance = [level for level in (*left, *equal) if "Holm p" in told[level]["beside"]]
    for level, match in told.items():
        pairs = known.pairs(key, level, base)
        mean = _by_seed(known, key, level, base)
        if level in still or abs(mean - number(match["mean"])) > SHOWN:
            found.facts.append(f"{level} differs by {mean:.2f} on {len(pairs)} pairs: {text}")
    effects = {level: abs(known.effect(key, level, base)) for level in others}
    found.family("decided", false=any(effects[level] <= SMALLEST for level in decided))
    found.family("equivalent", false=any(effects[level] >= SMALLEST for level in equal))
    found.family("beyond chance", false=any(effects[level] == 0 for level in chance))
    if "depends" in said:
        rivals = [
            f["key"]
            for f in known.builder.factors
            if f["key"].split(".")[-1] in said["depends"]["who"]
        ]
        if known.dead(key) or any(known.dead(rival) for rival in rivals):
            found.facts.append(f"an interaction of a factor that changes nothing: {text}")
    if len(known.builder.factors) > 1:
        found.family("depends", false="depends" in said)


def _by_seed(known: Known, key: str, level: Any, base: Any) -> float:
    """The mean over seeds of a level's mean difference under each."""
    mine, theirs = known.of(key, level), known.of(key, base)
    seeds: dict[int, list[float]] = {}
    for place in mine:
        if place in theirs:
            seeds.setdefault(place[1], []).append(mine[place] - theirs[place])
    return sum(sum(own) / len(own) for own in seeds.values()) / len(seeds)
