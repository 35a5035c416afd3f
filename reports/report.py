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
from reports.answer import Answer, build_answer, list_paired_limits, make_paired_answer
from reports.cells import Table
from reports.errors import EmptyStudyError, ReportError
from reports.study import Study, load_records, load_study_names
from reports.tables import (
    PairedStudies,
    build_tables,
    make_paired_table,
    make_published_table,
    pair_averages,
    pair_studies,
    resolve_metric,
)

# Attributes of Study that are not in the description that Report.stamp hashes.
_NOT_STAMPED = ("rows", "by_configuration", "correct_predictions", "histories", "provenance")


@dataclass(frozen=True)
class Report:
    """A study with its answer and its tables.

    Attributes:
        study: The study.
        metric: Metric of the differences, p-values and figures. The study has a heading for it.
        answer: The answer.
        tables: Tables of levels, configurations, methods, ranks, selection, feature quality and
            published results.
        factor_tables: Tables of the factors' importance and of the means of pairs of levels.
        importance: Importance of the factors for the metric. None if it cannot be computed.
    """

    study: Study
    metric: str
    answer: Answer
    tables: tuple[Table, ...]
    factor_tables: tuple[Table, ...] = ()
    importance: Importance | None = None

    @cached_property
    def stamp(self) -> str:
        """Hash of the report's inputs. Reports with the same stamp have the same content.

        The inputs are the study's rows and description, the metric, the names of the tables, and
        the code of this package. Correct predictions, histories and provenance of runs are not
        hashed, because they do not change after a run has ended.
        """
        description = {
            key: value for key, value in vars(self.study).items() if key not in _NOT_STAMPED
        }
        names = [self.metric, *(table.name for table in self.tables)]
        digest = hashlib.sha256(
            json.dumps([names, description], sort_keys=True, default=vars).encode()
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
        """The tables of selection, feature quality and published results."""
        return tuple(table for table in self.tables if not table.kind)

    @property
    def all_tables(self) -> tuple[Table, ...]:
        """All tables, the most important first."""
        return (*self.main, *self.factor_tables, *self.other_tables)


def make_report(study: Study, metric: str | None = None, *, published: bool = False) -> Report:
    """Build the report of a study: its answer and all of its tables.

    Args:
        study: Study read from the store.
        metric: Test metric of the study's protocol, or quality/MEASURE. Defaults to the protocol's
            main metric.
        published: Whether to add a table that compares the results with those of papers.

    Raises:
        ReportError: If the study has no such metric (one line with the choices).

    Example:
        >>> report = make_report(load_records("prompt_len"))  # doctest: +SKIP
        >>> report.answer.lines  # doctest: +SKIP
    """
    tables = build_tables(study, metric)
    study, metric = resolve_metric(study, metric)
    importance = compute_if_available(compute_importance, study, metric)
    answer = build_answer(study, metric, tables, importance)
    if published:
        tables.append(make_published_table(study))
    factor_tables = tuple(build_factor_tables(study, metric, importance))
    return Report(study, metric, answer, tuple(tables), factor_tables, importance)


@dataclass(frozen=True)
class PairedReport:
    """The comparison of two studies seed by seed, with its answer and its table.

    Attributes:
        paired: The two studies.
        answer: The answer.
        tables: The table of averages over datasets, if there is one, and the table of
            configurations.
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


def make_paired_report(study_a: Study, study_b: Study, metric: str | None = None) -> PairedReport:
    """Build the report of the differences B - A of two studies with common seeds.

    Args:
        study_a: Study A.
        study_b: Study B.
        metric: Metric of the differences. Defaults to the main metric of A's protocol.

    Raises:
        ReportError: If the studies cannot be compared seed by seed (one line with all reasons).
    """
    paired = pair_studies(study_a, study_b, metric)
    average = pair_averages(paired)
    comparisons = [average, paired] if average else [paired]
    has_verdicts = not list_paired_limits(paired)
    tables = tuple(
        make_paired_table(comparison, has_verdicts=has_verdicts) for comparison in comparisons
    )
    return PairedReport(paired, make_paired_answer(paired, average), tables)


def make_reports(tracking_uri: str, names: Sequence[str] = ()) -> Iterator[Report | ReportError]:
    """Yield the report of each study, or the error that prevents it.

    A study without an ended run yields an EmptyStudyError. Any other error is raised for a study in
    `names`; without `names` it is yielded.

    Args:
        tracking_uri: MLflow tracking URI of the store.
        names: Names of the studies. Defaults to all studies of the store, the most recently begun
            first.

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
