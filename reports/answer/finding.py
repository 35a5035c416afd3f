"""Parts of an answer: findings, cautions and limits."""

from dataclasses import dataclass

from reports.stats import Verdict


@dataclass(frozen=True)
class Finding:
    """A result on one factor, on the controls, or on the study as a whole.

    Attributes:
        subject: Subject of the sentence.
        verdict: Verdict against the smallest effect of interest; None if there is none.
        text: Complete sentences, without the subject and the verdict.
    """

    subject: str
    verdict: Verdict | None
    text: str

    @property
    def sentence(self) -> str:
        """The finding as one line."""
        verdict_text = f"{self.verdict}. " if self.verdict else ""
        return f"{self.subject}: {verdict_text}{self.text}"


@dataclass(frozen=True)
class Answer:
    """A study's findings, and the cautions that weaken all of them.

    Attributes:
        findings: The findings.
        cautions: One sentence per caution.
        rule: Explanation of the verdicts; "" if there are none.
        limits: Reasons for missing verdicts, with advice. They come first.
    """

    findings: tuple[Finding, ...]
    cautions: tuple[str, ...]
    rule: str = ""
    limits: tuple[Finding, ...] = ()

    @property
    def leading(self) -> tuple[Finding, ...]:
        """The limits, followed by the findings."""
        return (*self.limits, *self.findings)

    @property
    def lines(self) -> list[str]:
        """Limits, findings and cautions, one line each, followed by the rule."""
        sentences = [finding.sentence for finding in self.leading]
        return [*sentences, *self.cautions, *([self.rule] if self.rule else [])]
