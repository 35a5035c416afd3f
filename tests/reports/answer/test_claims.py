"""Answers to simulated studies contain no false claim; bench_answers checks thousands."""

from dataclasses import replace

import numpy as np
import pytest

from reports.answer import Answer
from tests.bench.bench_answers import SHAPES, count_wrong_answers, make_answer
from tests.reports.answer.claims import check_answer
from tests.reports.answer.known_study import FALSE_SENTENCES, Claims, KnownStudy


@pytest.mark.parametrize("shape", SHAPES)
def test_answers_to_simulated_studies_contain_no_false_claim(shape: str) -> None:
    """Ties, counts, differences and unchanged results are those of the runs."""
    wrong, claims = count_wrong_answers(shape, 8, 100)
    assert (wrong, claims.facts) == (0, [])


def check_altered_answer(shape: str, pattern: str, replacement: str) -> list[str]:
    """Replace a text in the first answer that has it, and return the facts that are false then."""
    rng = np.random.default_rng(100)
    for _ in range(200):
        known: KnownStudy = SHAPES[shape](rng)
        answer = make_answer(known)
        if any(pattern in line for line in answer.lines):
            break
    else:
        pytest.fail(f"no answer contains {pattern!r}")
    findings = tuple(replace(f, text=f.text.replace(pattern, replacement)) for f in answer.findings)
    cautions = tuple(line.replace(pattern, replacement) for line in answer.cautions)
    claims = Claims()
    check_answer(known, Answer(findings, cautions), claims)
    return claims.facts


@pytest.mark.parametrize(("shape", "pattern", "replacement"), FALSE_SENTENCES)
def test_the_check_of_claims_can_fail(shape: str, pattern: str, replacement: str) -> None:
    """For each kind of claim, an altered sentence is reported as false."""
    assert check_altered_answer(shape, pattern, replacement)
