"""Answers to simulated studies contain no false claim; bench_answers checks thousands."""

from dataclasses import replace

import numpy as np
import pytest

from reports.answer import Answer
from tests.bench.bench_answers import SHAPES, count_wrong_answers, make_answer
from tests.reports.answer.claims import check
from tests.reports.answer.known_study import UNTRUE, Claims, Known


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_to_simulated_studies_contain_no_false_claim(shape: str) -> None:
    """Ties, counts, differences and unchanged results are those of the runs."""
    wrong, claims = count_wrong_answers(shape, 8, 100)
    assert (wrong, claims.facts) == (0, [])


def altered(shape: str, pattern: str, other: str) -> list[str]:
    """What is found false where an answer has one text in place of another."""
    rng = np.random.default_rng(100)
    for _ in range(200):
        known: Known = SHAPES[shape](rng)
        answer = make_answer(known)
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
def test_the_check_of_claims_can_fail(shape: str, pattern: str, other: str) -> None:
    """For each kind of claim, an altered sentence is reported as false."""
    assert altered(shape, pattern, other)
