"""What an answer claims beside its factors: the best setting, shares, ranks, arms, cautions."""

import itertools
import json
import math
import re
from collections.abc import Iterator, Sequence

from tests.reports.answer.known import (
    CLOSE,
    SENTENCES,
    SHOWN,
    SMALLEST,
    Claims,
    Known,
    Place,
    number,
    parsed,
)


def best(known: Known, text: str, found: Claims) -> None:
    """The settings with the highest mean selection score, all of them, and their results."""
    means = {
        place: tuple(sum(own[i] for own in seeds.values()) / len(seeds) for i in (0, 1))
        for (arm, place), seeds in known.results.items()
        if not arm
    }
    top = max(score for _, score in means.values())
    tied = [place for place, (_, score) in means.items() if abs(score - top) < CLOSE]
    tie, one = (SENTENCES["best"][kind].fullmatch(text) for kind in ("tie", "one"))
    every = [known.results["", place] for place in tied]
    seeds = set.intersection(*map(set, every))
    mean = sum(own[seed][0] for own in every for seed in seeds) / len(every) / len(seeds)
    if tie:
        right = int(tie[1]) == len(tied) > 1 and abs(mean - float(tie[3])) < SHOWN
        right &= set(tie[2].split("; ")) <= {_words(place) for place in tied}
    else:
        right = one is not None and len(tied) == 1 and one["name"] == _words(tied[0])
        right = right and one is not None and abs(mean - float(one["mean"])) < SHOWN
    if not right:
        found.facts.append(f"best are {[_words(place) for place in tied]}: {text}")


def _words(place: Place) -> str:
    return ", ".join(
        f"{key.split('.')[-1]} {value:.3g}"
        if isinstance(value, float)
        else f"{key.split('.')[-1]} {value}"
        for key, value in place
    )


def shares(known: Known, text: str, found: Claims) -> None:
    """Which factors and pairs explain some of the variance; the two are families of their own."""
    named = re.findall(r"([\w]+)(?: with ([\w]+))? explains \d+%", text)
    if text and not named:
        found.facts.append(f"unread: {text}")
    alone = {one for one, other in named if not other}
    found.family("share", false=any(not _matters(known, one) for one in alone))
    found.family("share", false=len(alone) < len(named))
    if known.builder.sampler == "grid":
        for name in itertools.chain.from_iterable(named):
            if name and known.dead(known.factor(name)["key"]):
                found.facts.append(f"{name} changes nothing: {text}")


def _matters(known: Known, name: str) -> bool:
    """Whether a factor has any effect."""
    factor = known.factor(name)
    levels = factor["levels"] or (0.1, 0.5, 0.9)
    return len({known.truth({factor["key"]: level}) for level in levels}) > 1


def ranks(known: Known, text: str, found: Claims) -> None:
    """Of settings without ties: the least p is 2 of n! orders, times the number of factors."""
    said = parsed(text, "ranks", found)
    finished = sum(not arm for arm, _ in known.results)
    least = len(known.builder.factors) * 2 / math.factorial(finished) if finished > 2 else 1.0
    settings = (str(finished), str(known.builder.trials))
    if "over" not in said or said["over"].group("n", "m") != settings:
        found.facts.append(f"{finished} settings finished: {text}")
    if (least >= 0.05) != ("silent" in said) or ("silent" in said and len(said) > 2):
        found.facts.append(f"the least Holm p is {least:.3f}: {text}")
    named = re.findall(r"(\w+) \(ρ", said["goes"]["who"]) if "goes" in said else []
    found.family("goes with", false=any(not _matters(known, name) for name in named))


def arms(known: Known, text: str, found: Claims) -> None:
    """Of the fine-tuner alone and of real pictures beside the baseline."""
    told = SENTENCES["arms"]["gap"].fullmatch(text)
    if told is None:
        found.facts.append(f"unread: {text}")
        return
    base = tuple(sorted((f["key"], f["baseline"]) for f in known.builder.factors))
    mine = known.results["", base]
    for arm, shown in (("no_synthetic", told[2]), ("real_pictures", told[3])):
        theirs = known.results[arm, ()]
        gaps = [theirs[s][0] - mine[s][0] for s in mine if s in theirs]
        mean = sum(gaps) / len(gaps) * (-1 if arm == "no_synthetic" else 1)
        if abs(mean - number(shown)) > SHOWN:
            found.facts.append(f"{arm} differs by {mean:.2f}: {text}")
    gap = abs(known.arms["no_synthetic"])
    found.family("decided", false=told[1] == "Decided" and gap <= SMALLEST)
    found.family("equivalent", false=told[1] == "Equivalent" and gap >= SMALLEST)


def cautions(known: Known, lines: Sequence[str], found: Claims) -> None:
    """What is lacking, in numbers."""
    done = {seed for seeds in known.results.values() for seed in seeds}
    base = tuple(sorted((f["key"], f["baseline"]) for f in known.builder.factors))
    true = {"Demonstration backbone: this says nothing about CLIP.", *_lacking(known)}
    if not done:
        true.add("Nothing has finished.")
    elif len(done) < 5:
        true.add(f"Only {len(done)} seed{'s' * (len(done) > 1)} finished: intervals are rough.")
    if known.builder.sampler == "grid" and ("", base) not in known.results:
        true.add("The baseline has not finished: nothing is compared with it.")
    found.facts += [f"caution, told or left out: {caution}" for caution in true ^ set(lines)]


def _lacking(known: Known) -> Iterator[str]:
    """How many seeds of settings and arms have not finished, by what became of them."""
    ends = []
    for entry in known.builder.wanted or ():
        own = [r for r in known.builder.runs if r.tags["ship.setting_key"] == entry["setting_key"]]
        states = {s: r.tags["ship.state"] for r in own for s in json.loads(r.tags["ship.seeds"])}
        ends += [states.get(seed, "MISSING") for seed in known.builder.seeds]
    names = {"FAIL": "failed", "PRUNED": "pruned", "MISSING": "missing"}
    parts = [f"{ends.count(end)} {name}" for end, name in names.items() if end in ends]
    if parts:
        yield f"Not answered in full: of {len(ends)} rows, {', '.join(parts)}."
