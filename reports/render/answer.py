"""The answer, before the tables: on a terminal, and in Markdown."""

from html import escape

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from reports.answer import Answer, Finding
from reports.render.plain import escaped
from reports.render.words import printable
from reports.stats import Verdict

_STYLES = {
    Verdict.DECIDED: "bold green",
    Verdict.DIFFERS: "bold green",
    Verdict.EQUIVALENT: "bold cyan",
    Verdict.UNDECIDED: "bold",
}


def answer_view(name: str, answer: Answer) -> RenderableType:
    """The answer as one rich renderable: a finding a paragraph, cautions below.

    Args:
        name: of the study.
        answer: that it gives.
    """
    grid = Grid.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold")
    grid.add_column()
    for finding in answer.findings:
        grid.add_row(printable(finding.subject), _told(finding))
    for caution in answer.cautions:
        grid.add_row("", printable(caution, "yellow"))
    if answer.rule:
        grid.add_row("", printable(answer.rule, "dim"))
    return Group(printable(f"{name}: the answer", "bold"), Padding(grid, (1, 1, 1, 1)))


def _told(finding: Finding) -> Text:
    text = Text()
    if finding.verdict:
        text.append(f"{finding.verdict}. ", _STYLES[finding.verdict])
    return text.append_text(printable(finding.text))


def answer_markdown(name: str, answer: Answer) -> str:
    """The answer as a heading and a list, with an empty line behind it."""
    lines = []
    for finding in answer.findings:
        verdict = f"*{finding.verdict}.* " if finding.verdict else ""
        lines.append(f"- **{escaped(finding.subject)}:** {verdict}{escaped(finding.text)}")
    lines += [f"- {escaped(line)}" for line in (*answer.cautions, answer.rule) if line]
    return "\n".join([f"### {escaped(name)}: the answer", "", *lines, ""]) + "\n"


def answer_html(answer: Answer) -> str:
    """The answer as a fragment of a page that has no style of its own, such as a notebook's."""
    rows = []
    for finding in answer.findings:
        verdict = f"<em>{finding.verdict}.</em> " if finding.verdict else ""
        rows.append(
            f"<li><strong>{escape(finding.subject)}:</strong> {verdict}{escape(finding.text)}</li>"
        )
    rows += [f"<li>{escape(line)}</li>" for line in (*answer.cautions, answer.rule) if line]
    return f"<ul>{''.join(rows)}</ul>"
