"""What an answer is before anyone renders it."""

from dataclasses import dataclass

from reports.stats import Verdict


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
