"""Made-up studies whose results and effects are known, and what is false in their answers."""

import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tests.case_files import load_cases
from tests.reports.analysis.planted import METRIC
from tests.reports.builder import StoreBuilder

Assignment = tuple[tuple[str, Any], ...]
SMALLEST_EFFECT = 1.0  # points: the smallest effect of interest
TOLERANCE = 1e-6
ROUNDING = 0.0501  # how far a number with one decimal is from its own


@dataclass(frozen=True)
class KnownStudy:
    """A made-up study: its runs, and the expected H of a setting ("": of an arm) beside others."""

    builder: StoreBuilder
    truth: Callable[[Mapping[str, Any]], float]
    controls: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def results(self) -> dict[tuple[str, Assignment], dict[int, tuple[float, float]]]:
        """(arm, setting) -> seed -> H on test and in selection, of what finished."""
        results = {}
        for run in self.builder.runs:
            if run.tags["ship.state"] == "COMPLETE":
                place = tuple(sorted(json.loads(run.tags["ship.assignment"]).items()))
                results[run.tags["ship.control"], place] = {
                    s: (run.metrics[f"test/{METRIC}/seed_{s}"],
                        run.metrics[f"selection/{METRIC}/seed_{s}"])
                    for s in json.loads(run.tags["ship.seeds"])
                }  # fmt: skip
        return results

    def of(self, key: str, level: Any) -> dict[tuple[Assignment, int], float]:
        """(the other factors, seed) -> H of a level of a factor."""
        return {
            (tuple(part for part in place if part[0] != key), seed): values[0]
            for (control, place), seeds in self.results.items()
            if not control and dict(place)[key] == level
            for seed, values in seeds.items()
        }

    def pairs(self, key: str, level: Any, other_level: Any) -> list[tuple[float, float]]:
        """H of two levels wherever both finished."""
        mine, theirs = self.of(key, level), self.of(key, other_level)
        return [(mine[place], theirs[place]) for place in mine if place in theirs]

    def same(self, key: str, level: Any, other_level: Any) -> bool:
        """Whether a level has another's results wherever both finished."""
        return all(abs(a - b) < TOLERANCE for a, b in self.pairs(key, level, other_level))

    def dead(self, key: str) -> bool:
        """Whether no two levels of a factor differ anywhere."""
        levels = self.factor(key)["levels"]
        return all(self.same(key, *two) for two in itertools.combinations(levels, 2))

    def effect(self, key: str, level: Any, base: Any) -> float:
        """The true difference of two levels."""
        return self.truth({key: level}) - self.truth({key: base})

    def factor(self, key: str) -> Mapping[str, Any]:
        """A factor by its key, or by the last part of it."""
        return next(
            f for f in self.builder.factors if f["key"].split(".")[-1] == key.split(".")[-1]
        )


@dataclass
class Claims:
    """What is false in some answers.

    facts: sentences of fact. families: kind of claim -> how many families of tests could make it.
    false: kind -> how many of these made a false one.
    """

    facts: list[str] = field(default_factory=list)
    families: dict[str, int] = field(default_factory=dict)
    false: dict[str, int] = field(default_factory=dict)

    def family(self, kind: str, *, false: bool) -> None:
        """Count a family of tests."""
        self.families[kind] = self.families.get(kind, 0) + 1
        self.false[kind] = self.false.get(kind, 0) + false


NUMBER = r"[+−]?\d+\.\d"
CASES = load_cases(__file__, "sentences.yaml")
FALSE_SENTENCES = CASES.pop("untrue")
SENTENCES: dict[str, dict[str, re.Pattern[str]]] = {
    of: {kind: re.compile(text.replace("NUMBER", NUMBER)) for kind, text in patterns.items()}
    for of, patterns in CASES.items()
}


def parse_sentences(text: str, of: str, claims: Claims) -> dict[str, re.Match[str]]:
    """The sentences of a text of SENTENCES by kind; what is none of them counts as false."""
    matches: dict[str, re.Match[str]] = {}
    rest = text
    while rest:
        for kind, pattern in SENTENCES[of].items():
            if match := pattern.match(rest):
                matches[kind], rest = match, rest[match.end() :].strip()
                break
        else:
            claims.facts.append(f"unread: {rest}")
            break
    return matches


def parse_number(text: str | None) -> float:
    """A number with a true minus."""
    return float((text or "nan").replace("−", "-"))
