"""A report's content, before it is rendered."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reports.analysis import (
    Importance,
    build_factor_tables,
    compute_if_available,
    compute_importance,
)
from reports.answer import Answer, build_answer, paired_answer, paired_limits
from reports.cells import Table
from reports.errors import EmptyStudyError, ReportError
from reports.study import Study, load_records, load_study_names
from reports.tables import (
    PairedStudies,
    average_pairs,
    build_tables,
    pair_studies,
    paired_table,
    published_table,
    resolve_metric,
)

# parts of a study
_NOT_STAMPED = ("rows", "by_configuration", "correct_predictions", "histories", "provenance")


@dataclass(frozen=True)
class Report:
    """A study with its answer and its tables.

    Attributes:
        study: The study.
        metric: Metric of the differences, p-values and figures. The study has a heading for it.
        answer: The findings.
        tables: Tables of configurations, of selection, and of feature quality.
        factor_tables: Tables of the factors' shares of the variance and their interactions.
        importance: Importance of the factors for the metric; None if it cannot be computed.
    """

    study: Study
    metric: str
    answer: Answer
    tables: tuple[Table, ...]
    factor_tables: tuple[Table, ...] = ()
    importance: Importance | None = None

    @cached_property
    def stamp(self) -> str:
        """Hash of the report's inputs: reports with equal stamps are equal.

        The inputs are the study's rows and description, the choice of tables, and the code. The
        correct answers and the histories of the runs are left out, because they do not change after
        a run has ended.
        """
        description = {
            key: value for key, value in vars(self.study).items() if key not in _NOT_STAMPED
        }
        requested = [self.metric, *(table.name for table in self.tables)]
        digest = hashlib.sha256(
            json.dumps([requested, description], sort_keys=True, default=vars).encode()
        )
        digest.update(self.study.rows.write_csv().encode())
        for path in sorted(Path(__file__).parent.rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:32]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.name

    @property
    def main(self) -> tuple[Table, ...]:
        """The tables that compare levels, configurations, methods or factors."""
        return tuple(table for table in self.tables if table.kind)

    @property
    def other_tables(self) -> tuple[Table, ...]:
        """The tables of what selection chose and of feature quality."""
        return tuple(table for table in self.tables if not table.kind)

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """All tables, the most important first."""
        return (*self.main, *self.factor_tables, *self.other_tables)


def make_report(study: Study, metric: str | None = None, *, published: bool = False) -> Report:
    """Compute the answer and all tables of a study.

    Args:
        study: Study read from the store.
        metric: Test metric of the study's protocol, or a quality measure. Defaults to the
            protocol's main metric.
        published: Whether to add a table that compares the results with those of papers.

    Raises:
        ReportError: If the study has no such metric (one line with the choices).

    Example:
        >>> report = make_report(load_records("prompt_len"))  # doctest: +SKIP
        >>> report.answer.lines  # doctest: +SKIP
    """
    tables = build_tables(study, metric)
    study, metric = resolve_metric(study, metric)
    shares = compute_if_available(compute_importance, study, metric)
    answer = build_answer(study, metric, tables, shares)
    tables += [published_table(study)] if published else []
    of_factors = tuple(build_factor_tables(study, metric, shares))
    return Report(study, metric, answer, tuple(tables), of_factors, shares)


@dataclass(frozen=True)
class PairedReport:
    """The comparison of two studies seed by seed, with its answer and its table.

    Attributes:
        paired: The two studies.
        answer: The findings.
        tables: The table of averages over datasets, if there is one, and that of configurations.
    """

    paired: PairedStudies
    answer: Answer
    tables: tuple[Table, ...]

    @property
    def name(self) -> str:
        """Name of the comparison."""
        return self.paired.name

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """All tables."""
        return self.tables


def make_paired_report(first: Study, second: Study, metric: str | None = None) -> PairedReport:
    """Compare two studies that share seeds, data and backbone: the differences B - A.

    Args:
        first: Study A.
        second: Study B.
        metric: Main metric. Defaults to the protocol's main metric.

    Raises:
        ReportError: If the studies cannot be compared seed by seed (one line with all reasons).
    """
    paired = pair_studies(first, second, metric)
    average, has_verdicts = average_pairs(paired), not paired_limits(paired)
    parts = [part for part in (average, paired) if part]
    tables = tuple(paired_table(part, has_verdicts=has_verdicts) for part in parts)
    return PairedReport(paired, paired_answer(paired, average), tables)


def make_reports(tracking_uri: str, names: Sequence[str] = ()) -> Iterator[Report | ReportError]:
    """Yield the report of each of several studies, or the error that prevents it.

    Args:
        tracking_uri: MLflow tracking URI of the store.
        names: Names of the studies. By default all studies of the store, the most recently begun
            first; damaged records of one study then do not stop the others.

    Raises:
        ReportError: If the store cannot be read, or if a named study cannot be read (one line).
    """
    for name in dict.fromkeys(names or load_study_names(tracking_uri)):
        try:
            yield make_report(load_records(name, tracking_uri))
        except EmptyStudyError as error:
            yield error
        except ReportError as error:
            if names:
                raise
            yield ReportError(f"{name}: {error}")
