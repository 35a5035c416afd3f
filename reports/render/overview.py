"""One page over several studies of a store: what each says, of which data, and when it ran."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import Markup

from reports.answer import BEST, Answer
from reports.contract import ARMS
from reports.read import Study, heading
from reports.render.page import template, text_file
from reports.report import Report
from reports.tables import Value, cell_text, headline, level_text

# What a reader looks for a study by: what it is called, and the keys that tell it.
SOUGHT = {
    "dataset": ("dataset",),
    "backbone": ("backbone",),
    "method": ("finetuner.name", "generator.name"),
}


@dataclass(frozen=True)
class Entry:
    """A study on the page.

    page: address of its own page, beside this one. ran: from the first day to the last.
    sought: see SOUGHT. values: those that a study varies are all listed.
    best: the setting that selection prefers, with its result on test; "" where it prefers none, or
        the answer says it.
    """

    name: str
    description: str
    page: str
    ran: str
    sought: dict[str, list[str]]
    best: str
    answer: Answer


def entry(report: Report, page: str) -> Entry:
    """A study's entry.

    Args:
        report: of the study.
        page: address of its page.
    """
    study = report.study
    sought = {
        name: list(dict.fromkeys(value for key in keys for value in _values(study, key)))
        for name, keys in SOUGHT.items()
    }
    told = any(finding.subject == BEST for finding in report.answer.findings)
    best = "" if told else _best(report)
    return Entry(study.name, study.description, page, _days(study), sought, best, report.answer)


def overview(entries: Sequence[Entry], left_out: Sequence[str] = ()) -> str:
    """The page.

    Args:
        entries: in their order.
        left_out: a line for each study that there is no report of, and why.
    """
    choices = {
        name: sorted({value for entry in entries for value in entry.sought[name]})
        for name in SOUGHT
    }
    text = template("overview.html.j2").render(
        entries=entries,
        choices=choices,
        left_out=left_out,
        style=Markup(text_file("page.css")),
        script=Markup(text_file("overview.js")),
    )
    return text.rstrip() + "\n"


def overview_lines(entries: Sequence[Entry], left_out: Sequence[str] = ()) -> Iterator[str]:
    """The same as plain text, a paragraph a study."""
    for found in entries:
        about = "; ".join(", ".join(values) for values in found.sought.values() if values)
        yield f"{found.name} ({found.ran}; {about})"
        yield from (f"  {line}" for line in found.answer.lines[: len(found.answer.findings)])
        yield from [f"  best by selection: {found.best}"] if found.best else []
    yield from (f"left out: {line}" for line in left_out)


def _values(study: Study, key: str) -> Iterator[str]:
    """What a study has under a key: its constant, or every level that its settings have."""
    group = key.removesuffix(".name")
    for setting in study.settings:
        value = setting.assignment.get(key, setting.assignment.get(group))
        if value is not None and not setting.arm:
            yield level_text(value["name"] if isinstance(value, dict) else value)
    if (constant := study.constants.get(key, "")) not in ("", "null", "none"):
        yield constant


def _days(study: Study) -> str:
    """The day of its first run, and of its last."""
    started = study.rows["started"].drop_nulls().to_list()
    days = [datetime.fromtimestamp(one / 1000, UTC).date() for one in started]
    ends = sorted({min(days), max(days)}) if days else []
    return " to ".join(str(day) for day in ends) or "not run"


def _best(report: Report) -> str:
    found = headline(report.study, report.metric)
    if found is None:
        return ""
    shown = f"{heading(report.study.protocol, report.metric)} {cell_text(Value(found.estimate))}"
    names = {name: label for name, (label, _) in ARMS.items()}
    against = [
        f"{cell_text(Value(one, signed=True))} against {names.get(name, name)}"
        for name, one in found.beside.items()
    ]
    return ": ".join(part for part in (found.setting, ", ".join([shown, *against])) if part)
