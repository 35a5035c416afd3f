"""The parts of an answer: findings, cautions, and what keeps a study from verdicts."""

from dataclasses import dataclass

from reports.stats import Verdict


@dataclass(frozen=True)
class Finding:
    """What is known of one factor, or of the study beside its reference arms.

    verdict: None where nothing was judged against the smallest effect of interest.
    text: whole sentences, without the subject and the verdict.
    """

    subject: str
    verdict: Verdict | None
    text: str

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        judged = f"{self.verdict}. " if self.verdict else ""
        return f"{self.subject}: {judged}{self.text}"


@dataclass(frozen=True)
class Answer:
    """A study's findings, and what weakens all of them.

    rule: what the verdicts mean, in one sentence; "" where there are none.
    limits: why there are no verdicts, and what to change. They come first.
    """

    findings: tuple[Finding, ...]
    cautions: tuple[str, ...]
    rule: str = ""
    limits: tuple[Finding, ...] = ()

    @property
    def leading(self) -> tuple[Finding, ...]:
        """The limits, and the findings after them."""
        return (*self.limits, *self.findings)

    @property
    def lines(self) -> list[str]:
        """Limits, findings and cautions, one line each, the rule last."""
        found = [finding.sentence for finding in self.leading]
        return [*found, *self.cautions, *([self.rule] if self.rule else [])]
