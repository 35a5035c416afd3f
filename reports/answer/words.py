"""What an answer is, and how it writes numbers: in whole sentences, two digits of p."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from reports import tables
from reports.stats import MOST_SEEDS, Verdict
from reports.tables import Compared, Row, Value

MOST_NAMED = 6  # rows that one sentence names


@dataclass(frozen=True)
class Finding:
    """What is known of one factor, or of the study beside its reference arms.

    verdict: None where nothing was judged against the smallest effect of interest.
    text: whole sentences, without the subject and the verdict.
    certain: whether some difference of it is not 0, beyond chance.
    """

    subject: str
    verdict: Verdict | None
    text: str
    certain: bool = False

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        judged = f"{self.verdict}. " if self.verdict else ""
        return f"{self.subject}: {judged}{self.text}"


@dataclass(frozen=True)
class Answer:
    """A study's findings, and what weakens all of them.

    rule: what the verdicts mean, in one sentence; "" where there are none.
    """

    findings: tuple[Finding, ...]
    cautions: tuple[str, ...]
    rule: str = ""

    @property
    def lines(self) -> list[str]:
        """Findings and cautions, one line each, the rule last."""
        found = [finding.sentence for finding in self.findings]
        return [*found, *self.cautions, *([self.rule] if self.rule else [])]


def value_in(row: Row, key: str) -> float:
    """The mean that a row has in a column; not a number without one."""
    cell = row.cells.get(key)
    return cell.estimate.mean if isinstance(cell, Value) else math.nan


def p_words(p: float | None) -> str:
    """A corrected p in words, "" without one."""
    return "" if p is None else f"Holm p {tables.p_text(p)}"


def signed(compared: Compared, *, turned: bool = False) -> str:
    """The difference with its interval: "+0.6 ± 0.5"; turned: of the baseline to the row."""
    estimate = compared.difference
    if turned:
        low, high = (None if end is None else -end for end in (estimate.high, estimate.low))
        estimate = replace(estimate, mean=-estimate.mean, low=low, high=high)
    over = compared.datasets
    part = f"(over {over[0]} of {over[1]} datasets)" if over else ""
    return tables.cell_text(Value(estimate, signed=True, decimals=compared.decimals, suffix=part))


def points(effect: float) -> str:
    """An effect in words: "1 point", "0.5 points"."""
    return f"{effect:g} point{'' if effect == 1 else 's'}"


def further(compared: Compared) -> str:
    """How many seeds more would settle it, "" where it is settled or nothing is known of that."""
    more = compared.more
    if compared.verdict is not Verdict.UNDECIDED or more is None:
        return ""
    if more > MOST_SEEDS:
        return f"over {MOST_SEEDS} seeds more"
    return f"about {more} seed{'s' if more > 1 else ''} more"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first few of many."""
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def detectable(found: Sequence[Compared]) -> str:
    """What the seeds could have shown, by the least certain of rows; "" where not known."""
    known = [(one.detectable, one) for one in found if one.detectable is not None]
    if not known:
        return ""
    most, one = max(known, key=lambda pair: pair[0])
    n, told = one.difference.n, tables.number(most, one.decimals)
    return f"With {n} seeds a true difference of {told} is found in 4 of 5 studies."
