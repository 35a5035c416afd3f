"""Everything that a report of a study says, before anyone renders it."""

from dataclasses import dataclass

from reports.answer import Answer, build_answer
from reports.read import Study
from reports.tables import Table, build_tables, with_metric


@dataclass(frozen=True)
class Report:
    """A study with its answer and its tables.

    metric: what differences, p-values and figures are of; the study has a heading for it.
    """

    study: Study
    metric: str
    answer: Answer
    tables: tuple[Table, ...]


def make_report(study: Study, metric: str | None = None) -> Report:
    """The report of a study.

    Args:
        study: as it was read.
        metric: a test metric of its protocol, or a measure of quality; None: the default.

    Raises:
        ReportError: the study has no such metric.
    """
    tables = build_tables(study, metric)
    answer = build_answer(study, tables, metric)
    study, metric = with_metric(study, metric)
    return Report(study, metric, answer, tuple(tables))
