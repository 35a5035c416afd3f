"""Answers to made-up studies say nothing that is not so; bench_answers asks thousands."""

from dataclasses import replace

import numpy as np
import pytest

from reports.answer import Answer
from tests.bench.bench_answers import SHAPES, answered, judged
from tests.reports.answer.claims import check
from tests.reports.answer.known_study import UNTRUE, Claims, Known


@pytest.mark.parametrize("shape", SHAPES)
def test_no_sentence_of_fact_is_false(shape: str) -> None:
    """Ties, counts, differences, and what changed nothing are as the runs have them."""
    wrong, claims = judged(shape, 8, 100)
    assert (wrong, claims.facts) == (0, [])


def altered(shape: str, pattern: str, other: str) -> list[str]:
    """What is found false where an answer has one text in place of another."""
    rng = np.random.default_rng(100)
    for _ in range(200):
        known: Known = SHAPES[shape](rng)
        answer = answered(known)
        if any(pattern in line for line in answer.lines):
            break
    else:
        pytest.fail(f"no answer says {pattern!r}")
    findings = tuple(replace(f, text=f.text.replace(pattern, other)) for f in answer.findings)
    cautions = tuple(line.replace(pattern, other) for line in answer.cautions)
    claims = Claims()
    check(known, Answer(findings, cautions), claims)
    return claims.facts


@pytest.mark.parametrize(("shape", "pattern", "other"), UNTRUE)
def test_a_false_sentence_is_found(shape: str, pattern: str, other: str) -> None:
    """What holds answers against runs can fail, for each kind of fact."""
    assert altered(shape, pattern, other)
