"""What an answer claims beside its factors: the best setting, shares, ranks, arms, cautions."""

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

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
    tests = [means[place][0] for place in tied]
    tie, one = (SENTENCES["best"][kind].fullmatch(text) for kind in ("tie", "one"))
    if tie:
        shown = tie[5].rpartition(" to ")[2] if tie[5].startswith(" to ") else tie[4]
        right = int(tie[1]) == len(tied) > 1
        right &= set(tie[2].split("; ")) <= {_words(place) for place in tied}
        right &= abs(min(tests) - float(tie[4])) < SHOWN and abs(max(tests) - float(shown)) < SHOWN
        base = tuple(sorted((f["key"], f["baseline"]) for f in known.builder.factors))
        right &= bool(tie[3]) == (base in tied)
    else:
        right = one is not None and len(tied) == 1 and one["name"] == _words(tied[0])
        right = right and one is not None and abs(tests[0] - float(one["mean"])) < SHOWN
        done, every = len(known.results["", tied[0]]), len(known.builder.seeds)
        shown = (None, None) if done == every else (str(done), str(every))
        right = right and one is not None and one.group("n", "of") == shown
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
    few = _too_few_seeds(known)
    none, silent = (SENTENCES["shares"][kind].fullmatch(text) for kind in ("none", "few"))
    right = few is not True if none else few is not False and silent
    if not named and not right:
        found.facts.append(f"unread, or false of so many seeds: {text}")
    alone = {one for one, other in named if not other}
    found.family("share", false=any(not _matters(known, one) for one in alone))
    found.family("share", false=len(alone) < len(named))
    if known.builder.sampler == "grid":
        for name in itertools.chain.from_iterable(named):
            if name and known.dead(known.factor(name)["key"]):
                found.facts.append(f"{name} changes nothing: {text}")


def _too_few_seeds(known: Known) -> bool | None:
    """Whether no results of a whole grid could give a factor a Holm p below 0.05.

    Levels are shuffled within each seed and setting of the others, and their names are no matter;
    levels with the same results are one.
    None: of a part of a grid, or of draws.
    """
    seeds, factors = len(known.builder.seeds), known.builder.factors
    if known.builder.sampler != "grid":
        return None
    sizes = [len(factor["levels"]) for factor in factors]
    whole = [own for (arm, _), own in known.results.items() if not arm]
    if len(whole) < math.prod(sizes) or any(len(own) < seeds for own in whole):
        return None
    sizes = [_apart(known, factor) for factor in factors]
    orders = [
        math.factorial(n) ** (math.prod(sizes) // n * seeds) // math.factorial(n) for n in sizes
    ]
    return len(sizes) / min(max(orders), 1_000) >= 0.05


def _apart(known: Known, factor: Mapping[str, Any]) -> int:
    """How many levels of a factor have results of their own."""
    found: list[Any] = []
    for level in factor["levels"]:
        if not any(known.same(factor["key"], level, other) for other in found):
            found.append(level)
    return len(found)


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
    for kind in ("over", "silent"):
        if kind in said and said[kind].group("n", "m") != (
            str(finished),
            str(known.builder.trials),
        ):
            found.facts.append(f"{finished} settings finished: {text}")
    if (least >= 0.05) != ("silent" in said) or ("silent" in said and len(said) > 1):
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
    for arm, shown in (("no_synthetic", told[1]), ("real_pictures", told[3])):
        theirs = known.results[arm, ()]
        gaps = [theirs[s][0] - mine[s][0] for s in mine if s in theirs]
        mean = sum(gaps) / len(gaps) * (-1 if arm == "no_synthetic" else 1)
        if abs(mean - number(shown)) > SHOWN:
            found.facts.append(f"{arm} differs by {mean:.2f}: {text}")
    gap, room = abs(known.arms["no_synthetic"]), known.arms["real_pictures"]
    found.family("decided", false=told[2] == "decided" and gap <= SMALLEST)
    found.family("equivalent", false=told[2] == "equivalent" and gap >= SMALLEST)
    wrong = {
        "the most that better features could gain": room <= 0,
        "they are worse, so better features promise no gain": room >= 0,
    }
    found.family("room", false=wrong.get(told[4], False))


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
    """How many settings, and how many arms, have not finished whole, each counted once."""
    names = {"FAIL": "failed", "PRUNED": "stopped early", "MISSING": "incomplete"}
    for arms, kind in ((False, "setting"), (True, "reference arm")):
        wanted = [w for w in known.builder.wanted or () if bool(w["arm"]) == arms]
        ends = []
        for entry in wanted:
            own = [
                r for r in known.builder.runs if r.tags["ship.setting_key"] == entry["setting_key"]
            ]
            states = {
                s: r.tags["ship.state"] for r in own for s in json.loads(r.tags["ship.seeds"])
            }
            every = {states.get(seed, "MISSING") for seed in known.builder.seeds}
            ends.append(next((end for end in names if end in every), ""))
        parts = [f"{ends.count(end)} {name}" for end, name in names.items() if end in ends]
        if parts:
            many = f"{len(wanted)} {kind}{'s' * (len(wanted) > 1)}"
            yield f"Not answered in full: of {many}, {', '.join(parts)}."
