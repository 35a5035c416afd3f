"""A report as the study's own run in MLflow shows it."""

import dataclasses
from functools import cache

from reports.contract import HEADLINE, Publication, interval_metrics
from reports.render import answer_markdown, file_name, report_files, text_of
from reports.report import Report
from reports.stats import Estimate
from reports.tables import Headline, headline


def make_publication(report: Report) -> Publication:
    """What the study's own run shows of a report.

    Args:
        report: of the protocol's default metric.
    """
    study = report.study
    found = headline(study, report.metric)
    return Publication(
        metrics=_metrics(found, report.metric) if found else {},
        params={name: text for name, text in study.constants.items() if text},
        best=found.setting if found else "",
        note=_note(report),
        answer=_answer(report),
        page=f"{file_name(study.name)}.html",
        stamp=report.stamp,
        files=cache(lambda: report_files(report)),
    )


def _metrics(found: Headline, metric: str) -> dict[str, float]:
    """Of the best setting and of its differences, the mean and the ends of its interval."""
    metrics = _of(f"{HEADLINE}best/{metric}", found.estimate)
    for name, difference in found.beside.items():
        metrics |= _of(f"{HEADLINE}vs_{name}/{metric}", difference)
    return metrics


def _of(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, **interval_metrics(name, estimate.low, estimate.high)}


def _note(report: Report) -> str:
    """Markdown: the description, the answer and the main table."""
    main = dataclasses.replace(report, tables=report.main[:1], together=())
    text, description = text_of("markdown", main), report.study.description
    return f"{description}\n\n{text}" if description else text


def _answer(report: Report) -> str:
    """Markdown: the answer, whose beginning a list shows, and the description."""
    _, _, answer = answer_markdown(report.study.name, report.answer).partition("\n\n")
    return f"{answer}\n{report.study.description}".rstrip() + "\n"
