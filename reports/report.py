"""Everything that a report of a study says, before anyone renders it."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.store import study_names
from reports.analysis import Importance, available, factor_tables, importance
from reports.answer import Answer, build_answer
from reports.cells import Table
from reports.errors import EmptyStudyError, ReportError
from reports.study import Study, load_records
from reports.tables import build_tables, published_table, with_metric

_NOT_STAMPED = ("rows", "by_setting", "hits", "histories")  # parts of a study


@dataclass(frozen=True)
class Report:
    """A study with its answer and its tables.

    metric: what differences, p-values and figures are of; the study has a heading for it.
    tables: of settings, selection and quality. together: of its factors taken together.
    importance: of its factors, for the metric; None where there is none.
    """

    study: Study
    metric: str
    answer: Answer
    tables: tuple[Table, ...]
    together: tuple[Table, ...] = ()
    importance: Importance | None = None

    @cached_property
    def stamp(self) -> str:
        """What the report is made of, as a short text: equal stamps, equal reports.

        That is the study's rows, what describes it, which tables there are, and the code. The right
        answers and histories that runs keep are not read for it: a run that has ended keeps them as
        they are.
        """
        said = {key: own for key, own in vars(self.study).items() if key not in _NOT_STAMPED}
        asked = [self.metric, *(table.name for table in self.tables)]
        digest = hashlib.sha256(json.dumps([asked, said], sort_keys=True, default=vars).encode())
        digest.update(self.study.rows.write_csv().encode())
        for path in sorted(Path(__file__).parent.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:32]

    @property
    def main(self) -> tuple[Table, ...]:
        """The tables that compare levels, settings, methods or factors."""
        return tuple(table for table in self.tables if table.kind)

    @property
    def beside(self) -> tuple[Table, ...]:
        """The tables of what selection chose, and of the features' quality."""
        return tuple(table for table in self.tables if not table.kind)

    @property
    def every_table(self) -> tuple[Table, ...]:
        """All tables, the most telling first."""
        return (*self.main, *self.together, *self.beside)


def make_report(study: Study, metric: str | None = None, *, published: bool = False) -> Report:
    """The report of a study.

    Args:
        study: as it was read.
        metric: a test metric of its protocol, or a measure of quality; None: the default.
        published: whether a table has what papers report beside what was measured.

    Raises:
        ReportError: the study has no such metric.
    """
    tables = build_tables(study, metric)
    study, metric = with_metric(study, metric)
    found = available(importance, study, metric)
    answer = build_answer(study, metric, tables, found)
    tables += [published_table(study)] if published else []
    together = tuple(factor_tables(study, metric, found))
    return Report(study, metric, answer, tuple(tables), together, found)


def reports_of(tracking_uri: str, names: Sequence[str] = ()) -> Iterator[Report | ReportError]:
    """The report of each of several studies, or why there is none.

    Args:
        tracking_uri: of the store.
        names: of the studies; none: all of the store, the one begun last first, and what is damaged
            of one does not keep the others back.

    Raises:
        ReportError: unreadable store, or a study that is named and cannot be read (one line).
    """
    for name in dict.fromkeys(names or study_names(tracking_uri)):
        try:
            yield make_report(load_records(name, tracking_uri))
        except EmptyStudyError as error:
            yield error
        except ReportError as error:
            if names:
                raise
            yield ReportError(f"{name}: {error}")
