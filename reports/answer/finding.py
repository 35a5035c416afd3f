"""Parts of an answer: findings, cautions and limits."""

from dataclasses import dataclass

from reports.stats import Verdict


@dataclass(frozen=True)
class Finding:
    """One line of the answer, for example on a factor, on the controls, or on a limit.

    Attributes:
        subject: What the line is about, e.g. "n_ctx".
        verdict: Verdict on the difference, e.g. HIGHER. None if the finding has no verdict.
        text: Complete sentences, which repeat neither the subject nor the verdict.
    """

    subject: str
    verdict: Verdict | None
    text: str

    @property
    def sentence(self) -> str:
        """The finding as one line: subject, verdict and text."""
        verdict_text = f"{self.verdict}. " if self.verdict else ""
        return f"{self.subject}: {verdict_text}{self.text}"


@dataclass(frozen=True)
class Answer:
    """The findings of a study, with limits and cautions.

    Attributes:
        findings: The findings.
        cautions: Cautions that weaken all findings, one sentence each.
        rule: Explanation of the verdicts. "" without verdicts.
        limits: Reasons for missing verdicts, with advice. They come before the findings.
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
