"""Simulated studies with known effects, and a count of the false claims in their answers."""

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

Assignment = tuple[tuple[str, Any], ...]  # (factor, level) pairs, sorted by factor
SMALLEST_EFFECT = 1.0  # points: the smallest effect of interest
TOLERANCE = 1e-6  # differences below this are rounding errors
ROUNDING = 0.0501  # largest difference of a number from its text with one decimal


@dataclass(frozen=True)
class KnownStudy:
    """A simulated study whose true effects are known.

    Attributes:
        builder: The study and its runs.
        truth: Function that returns the expected H of an assignment. A factor that the assignment
            lacks has its baseline.
        controls: Expected difference in H between each control and the baseline.
    """

    builder: StoreBuilder
    truth: Callable[[Mapping[str, Any]], float]
    controls: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def results(self) -> dict[tuple[str, Assignment], dict[int, tuple[float, float]]]:
        """H on test and in selection by (control, assignment) and seed, of completed runs."""
        results = {}
        for run in self.builder.runs:
            if run.tags["ship.state"] == "COMPLETE":
                assignment = tuple(sorted(json.loads(run.tags["ship.assignment"]).items()))
                results[run.tags["ship.control"], assignment] = {
                    s: (run.metrics[f"test/{METRIC}/seed_{s}"],
                        run.metrics[f"selection/{METRIC}/seed_{s}"])
                    for s in json.loads(run.tags["ship.seeds"])
                }  # fmt: skip
        return results

    def select_level(self, key: str, level: Any) -> dict[tuple[Assignment, int], float]:
        """Return H of a factor's level by (levels of the other factors, seed)."""
        return {
            (tuple(pair for pair in assignment if pair[0] != key), seed): values[0]
            for (control, assignment), seeds in self.results.items()
            if not control and dict(assignment)[key] == level
            for seed, values in seeds.items()
        }

    def find_pairs(self, key: str, level: Any, other_level: Any) -> list[tuple[float, float]]:
        """Return the pairs of H of two levels that differ in no other factor and in no seed."""
        first, second = self.select_level(key, level), self.select_level(key, other_level)
        return [(first[condition], second[condition]) for condition in first if condition in second]

    def are_identical(self, key: str, level: Any, other_level: Any) -> bool:
        """Return True if two levels have equal results in all pairs."""
        pairs = self.find_pairs(key, level, other_level)
        return all(abs(first - second) < TOLERANCE for first, second in pairs)

    def changes_nothing(self, key: str) -> bool:
        """Return True if all levels of a factor have equal results."""
        level_pairs = itertools.combinations(self.find_factor(key)["levels"], 2)
        return all(self.are_identical(key, *levels) for levels in level_pairs)

    def compute_true_effect(self, key: str, level: Any, baseline: Any) -> float:
        """Return the true difference between two levels."""
        return self.truth({key: level}) - self.truth({key: baseline})

    def find_factor(self, key: str) -> Mapping[str, Any]:
        """Return a factor by its key, or by the last part of its key."""
        return next(
            f for f in self.builder.factors if f["key"].split(".")[-1] == key.split(".")[-1]
        )


@dataclass
class Claims:
    """False claims in some answers.

    Attributes:
        facts: Descriptions of false sentences of fact.
        families: Number of families of tests by kind of claim.
        false: Number of families with a false claim by kind of claim.
    """

    facts: list[str] = field(default_factory=list)
    families: dict[str, int] = field(default_factory=dict)
    false: dict[str, int] = field(default_factory=dict)

    def count_family(self, kind: str, *, false: bool) -> None:
        """Count a family of tests that could make a claim of this kind."""
        self.families[kind] = self.families.get(kind, 0) + 1
        self.false[kind] = self.false.get(kind, 0) + false


NUMBER = r"[+−]?\d+\.\d"
CASES = load_cases(__file__, "sentences.yaml")
FALSE_SENTENCES = CASES.pop("false_sentences")
SENTENCES: dict[str, dict[str, re.Pattern[str]]] = {
    subject: {kind: re.compile(text.replace("NUMBER", NUMBER)) for kind, text in patterns.items()}
    for subject, patterns in CASES.items()
}


def parse_sentences(text: str, subject: str, claims: Claims) -> dict[str, re.Match[str]]:
    """Match the sentences of a text by kind. An unknown sentence is added to the false facts."""
    matches: dict[str, re.Match[str]] = {}
    remaining = text
    while remaining:
        for kind, pattern in SENTENCES[subject].items():
            if match := pattern.match(remaining):
                matches[kind], remaining = match, remaining[match.end() :].strip()
                break
        else:
            claims.facts.append(f"unread: {remaining}")
            break
    return matches


def parse_number(text: str | None) -> float:
    """Parse a number with a typographic minus sign. None is NaN."""
    return float((text or "nan").replace("−", "-"))
