"""What an answer claims, sentence by sentence, against results and effects that are known.

A sentence of fact (a tie, a count, a level that changed nothing, a difference that was seen) is
false where the runs say otherwise. A sentence at a level (decided, equivalent, beyond chance, an
interaction, a share, a correlation) is false where the truth has no such thing; that may happen as
often as the level promises, but never where the results are the same bit for bit. Nothing here uses
the code under test: numbers are read from the runs, and the truth is what they were made from.
"""

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from reports.answer import Answer, Finding
from tests.reports.answer.known_study import (
    CLOSE,
    NUMBER,
    SENTENCES,
    SHOWN,
    SMALLEST_EFFECT,
    Claims,
    Known,
    Place,
    number,
    parsed,
)

_ITEM = re.compile(rf"(?P<level>\d+)(?: \((?P<mean>{NUMBER})(?P<beside>[^)]*)\))?")


UNEVEN = ": intervals and verdicts assume normal noise of equal variance."


def check(known: Known, answer: Answer, claims: Claims) -> None:
    """Add what an answer claims to what others did."""
    for finding in answer.findings:
        if finding.subject == "best configuration by selection":
            best(known, finding.text, claims)
        elif finding.subject == "importance":
            pass  # read below, in studies without one, too
        elif finding.subject == "rank association with the factors":
            ranks(known, finding.text, claims)
        elif finding.subject.split(",")[0] in {
            f["key"].split(".")[-1] for f in known.builder.factors
        }:
            _levels(known, finding, claims)
        else:
            controls(known, finding.text, claims)
    texts = [finding.text for finding in answer.findings if finding.subject == "importance"]
    if len(known.builder.factors) > 1:
        shares(known, " ".join(texts), claims)
    cautions(known, answer.cautions, claims)
    for limit in answer.limits:
        _limit(known, limit, claims)


def _levels(known: Known, finding: Finding, claims: Claims) -> None:
    key = finding.subject.split(",")[0]
    factor = known.factor(key)
    key, base = factor["key"], factor["baseline"]
    other_levels = [
        level for level in factor["levels"] if level != base and known.pairs(key, level, base)
    ]
    still = [level for level in other_levels if known.same(key, level, base)]
    matches = parsed(finding.text, "factor", claims)
    text = f"{finding.subject}: {finding.text}"

    outcomes = matches["compared"]["who"].split("; ") if "compared" in matches else []
    levels_of = dict(part.split(" for ", 1) for part in outcomes)

    def named(kind: str) -> dict[int, re.Match[str]]:
        return {int(m["level"]): m for m in _ITEM.finditer(levels_of.get(kind, ""))}

    different = {**named("higher"), **named("lower")}
    kinds = ("unchanged", "inconclusive", "equivalent", "significantly different")
    same, left, equal, sure = map(named, kinds)
    if sorted(same) != sorted(still):
        claims.facts.append(f"levels that changed nothing are {still}: {text}")
    levels_in_text = {**different, **left, **equal, **sure}
    chance = [
        level for level in (*left, *equal, *sure) if "Holm p" in levels_in_text[level]["beside"]
    ]
    for level, match in levels_in_text.items():
        pairs = known.pairs(key, level, base)
        mean = _by_seed(known, key, level, base)
        if level in still or abs(mean - number(match["mean"])) > SHOWN:
            claims.facts.append(f"{level} differs by {mean:.2f} on {len(pairs)} pairs: {text}")
    effects = {level: abs(known.effect(key, level, base)) for level in other_levels}
    claims.family("decided", false=any(effects[level] <= SMALLEST_EFFECT for level in different))
    claims.family("equivalent", false=any(effects[level] >= SMALLEST_EFFECT for level in equal))
    claims.family("beyond chance", false=any(effects[level] == 0 for level in chance))
    if "depends" in matches:
        rivals = [
            f["key"]
            for f in known.builder.factors
            if f["key"].split(".")[-1] in matches["depends"]["who"]
        ]
        if known.dead(key) or any(known.dead(rival) for rival in rivals):
            claims.facts.append(f"an interaction of a factor that changes nothing: {text}")
    if len(known.builder.factors) > 1:
        claims.family("depends", false="depends" in matches)


def _by_seed(known: Known, key: str, level: Any, base: Any) -> float:
    """The mean over seeds of a level's mean difference under each."""
    mine, theirs = known.of(key, level), known.of(key, base)
    seeds: dict[int, list[float]] = {}
    for place in mine:
        if place in theirs:
            seeds.setdefault(place[1], []).append(mine[place] - theirs[place])
    return sum(sum(values) / len(values) for values in seeds.values()) / len(seeds)


def best(known: Known, text: str, claims: Claims) -> None:
    """The configurations with the highest mean selection score, all of them, and their results."""
    means = {
        place: tuple(sum(values[i] for values in seeds.values()) / len(seeds) for i in (0, 1))
        for (control, place), seeds in known.results.items()
        if not control
    }
    top = max(score for _, score in means.values())
    tied = [place for place, (_, score) in means.items() if abs(score - top) < CLOSE]
    tie, single = (SENTENCES["best"][kind].fullmatch(text) for kind in ("tie", "one"))
    every = [known.results["", place] for place in tied]
    seeds = set.intersection(*map(set, every))
    mean = sum(values[seed][0] for values in every for seed in seeds) / len(every) / len(seeds)
    if tie:
        right = int(tie[1]) == len(tied) > 1 and abs(mean - float(tie[3])) < SHOWN
        right &= set(tie[2].split("; ")) <= {_words(place) for place in tied}
    else:
        right = single is not None and len(tied) == 1 and single["name"] == _words(tied[0])
        right = right and single is not None and abs(mean - float(single["mean"])) < SHOWN
    if not right:
        claims.facts.append(f"best are {[_words(place) for place in tied]}: {text}")


def _words(place: Place) -> str:
    return ", ".join(
        f"{key.split('.')[-1]} {value:.3g}"
        if isinstance(value, float)
        else f"{key.split('.')[-1]} {value}"
        for key, value in place
    )


def shares(known: Known, text: str, claims: Claims) -> None:
    """Which factors and pairs explain some of the variance; the two are families of their own."""
    named = re.findall(r"(?:[Tt]he interaction of (\w+) and )?(\w+) explains \d+%", text)
    if text and not named:
        claims.facts.append(f"unread: {text}")
    alone = {name for partner, name in named if not partner}
    claims.family("share", false=any(not _matters(known, name) for name in alone))
    claims.family("share", false=len(alone) < len(named))
    for name in itertools.chain.from_iterable(named):
        if name and known.dead(known.factor(name)["key"]):
            claims.facts.append(f"{name} changes nothing: {text}")


def _matters(known: Known, name: str) -> bool:
    """Whether a factor has any effect."""
    factor = known.factor(name)
    return len({known.truth({factor["key"]: level}) for level in factor["levels"]}) > 1


def ranks(known: Known, text: str, claims: Claims) -> None:
    """Without ties the least p is 2 of n! orders, times the number of factors."""
    matches = parsed(text, "ranks", claims)
    finished = sum(not control for control, _ in known.results)
    least = len(known.builder.factors) * 2 / math.factorial(finished) if finished > 2 else 1.0
    configurations = (str(finished), str(known.builder.n_trials))
    if "over" not in matches or matches["over"].group("n", "m") != configurations:
        claims.facts.append(f"{finished} configurations finished: {text}")
    if (least >= 0.05) != ("silent" in matches) or ("silent" in matches and len(matches) > 2):
        claims.facts.append(f"the least Holm p is {least:.3f}: {text}")


def controls(known: Known, text: str, claims: Claims) -> None:
    """Of the fine-tuner alone and of real images beside the baseline."""
    match = SENTENCES["controls"]["gap"].fullmatch(text)
    if match is None:
        claims.facts.append(f"unread: {text}")
        return
    base = tuple(sorted((f["key"], f["baseline"]) for f in known.builder.factors))
    mine = known.results["", base]
    for control, shown in (("no_synthetic", match[2]), ("real_images", match[3])):
        theirs = known.results[control, ()]
        gaps = [theirs[s][0] - mine[s][0] for s in mine if s in theirs]
        mean = sum(gaps) / len(gaps) * (-1 if control == "no_synthetic" else 1)
        if abs(mean - number(shown)) > SHOWN:
            claims.facts.append(f"{control} differs by {mean:.2f}: {text}")
    gap = abs(known.controls["no_synthetic"])
    claims.family("decided", false=match[1] in ("higher", "lower") and gap <= SMALLEST_EFFECT)
    claims.family("equivalent", false=match[1] == "equivalent" and gap >= SMALLEST_EFFECT)


def _limit(known: Known, limit: Finding, claims: Claims) -> None:
    """The gain of real images over the fine-tuner alone, and that it is below what matters."""
    match = SENTENCES["limits"]["no headroom"].fullmatch(limit.text)
    if match is None or limit.subject != "no headroom":
        claims.facts.append(f"unread: {limit.sentence}")
        return
    floor, real = (known.results[control, ()] for control in ("no_synthetic", "real_images"))
    gains = [real[seed][0] - floor[seed][0] for seed in floor if seed in real]
    if abs(sum(gains) / len(gains) - number(match["gain"])) > SHOWN:
        claims.facts.append(f"real images gain {sum(gains) / len(gains):.2f}: {limit.text}")
    gap = known.controls["real_images"] - known.controls["no_synthetic"]
    claims.family("no headroom", false=gap >= SMALLEST_EFFECT)


def cautions(known: Known, lines: Sequence[str], claims: Claims) -> None:
    """What is lacking, in numbers."""
    done = {seed for seeds in known.results.values() for seed in seeds}
    base = tuple(sorted((f["key"], f["baseline"]) for f in known.builder.factors))
    true = {"Demonstration backbone: this says nothing about CLIP.", *_lacking(known)}
    if not done:
        true.add("Nothing has finished.")
    elif len(done) < 5:
        true.add(f"Only {len(done)} seed{'s' * (len(done) > 1)} finished: intervals are rough.")
    elif (fewest := min(filter(None, _shared(known)), default=5)) < 5:
        seeds = f"{fewest} seed{'s' * (fewest > 1)}"
        true.add(f"A comparison has only {seeds}: its interval is rough.")
    if known.builder.sampler == "grid" and ("", base) not in known.results:
        # the tables of several factors compare their levels in other configurations
        compared = len(base) > 1 and any(_shared(known))
        table = " in the table configurations" if compared else ""
        true.add(f"The baseline has not finished: nothing is compared with it{table}.")
    warnings = {line for line in lines if line.endswith(UNEVEN)}
    claims.family("warned", false=bool(warnings))
    texts = set(lines) - warnings
    claims.facts += [f"caution, told or left out: {caution}" for caution in true ^ texts]


def _shared(known: Known) -> Iterator[int]:
    """Over how many seeds each level, and each arm, is held against the baseline."""
    base = tuple(sorted((f["key"], f["baseline"]) for f in known.builder.factors))
    results = known.results.get(("", base), {})
    yield from (
        len(results.keys() & seeds.keys())
        for (control, _), seeds in known.results.items()
        if control
    )
    for factor in known.builder.factors if known.builder.sampler == "grid" else ():
        theirs = known.of(factor["key"], factor["baseline"]).keys()
        for level in {*factor["levels"]} - {factor["baseline"]}:
            yield len({seed for _, seed in known.of(factor["key"], level).keys() & theirs})


def _lacking(known: Known) -> Iterator[str]:
    """How many seeds of configurations and arms have not finished, by what became of them."""
    ends = []
    for entry in known.builder.wanted or ():
        runs = [r for r in known.builder.runs if r.tags["ship.config_key"] == entry["config_key"]]
        states = {s: r.tags["ship.state"] for r in runs for s in json.loads(r.tags["ship.seeds"])}
        ends += [states.get(seed, "MISSING") for seed in known.builder.seeds]
    names = {"FAIL": "failed", "PRUNED": "pruned", "MISSING": "missing"}
    parts = [f"{ends.count(end)} {name}" for end, name in names.items() if end in ends]
    if parts:
        yield f"Incomplete: {', '.join(parts)} of {len(ends)} planned results."
