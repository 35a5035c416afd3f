"""Results from outside the store, read from a CSV file with a row per configuration and seed."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.store import SEPARATE_FACTORS, ProtocolMetrics
from harness.wording import count, nearest, show
from reports.errors import ReportError, ReportFaults
from reports.study import ExternalResults, ResultsBySeed, Study
from reports.tables.pooling import DATASET, list_datasets

_CONFIGURATION, _SEED = "configuration", "seed"
MAX_BYTES: Final = 10_000_000
MAX_ROWS: Final = 100_000
MAX_FAULTS: Final = 20  # maximum number of faults in a message
_LEAST_ROUNDING = 1e-3  # of a harmonic mean, in points; smaller differences are rounding
_NUMBER = re.compile(r"\d{1,3}(\.\d*)?|\.\d+")
_SEED_TEXT = re.compile(r"[0-9]{1,9}")


def with_external(study: Study, path: Path) -> Study:
    """Return a study with the results of a CSV file, which its tables show as external.

    The file has the columns `configuration`, `seed`, and metrics of the study's protocol, by name
    (`base`) or heading (`Base`). For a grid over datasets it also has the column `dataset`, and
    needs the halves of a harmonic mean. A harmonic mean that is absent is computed from its halves.

    Args:
        study: Study of one dataset, or a grid over datasets.
        path: The file.

    Raises:
        ReportError: If the file cannot be read.
        ReportFaults: If it is invalid. It is a ReportError.

    Example:
        >>> study = with_external(load_records("prompt_len"), Path("ours.csv"))  # doctest: +SKIP
    """
    datasets = list_datasets(study)
    separate = [factor.key for factor in study.factors if factor.key in SEPARATE_FACTORS]
    if datasets:
        separate.remove(DATASET)
    if separate:
        raise ReportError(
            f"{study.name}: external results need a study of one set of classes per dataset,"
            f" got the factor {separate[0]}"
        )
    table = _read(path)
    columns, faults = _columns(table.header, study.protocol, datasets)
    values: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    for line in table.lines:
        faults += _add_line(line, columns, study.protocol, datasets, values)
    faults += _file_faults(values)
    if faults:
        shown = [f"{path.name}{fault}" for fault in faults[:MAX_FAULTS]]
        more = len(faults) - MAX_FAULTS
        shown += [f"{path.name}: {count(more, 'more fault')}"] if more > 0 else []
        raise ReportFaults(shown)
    return replace(study, external=ExternalResults(path.name, values))


@dataclass(frozen=True)
class _Line:
    """A line of the file: its number, and its cells without surrounding spaces."""

    number: int
    cells: Sequence[str]


@dataclass(frozen=True)
class _File:
    """The header of the file, and its other lines that are not empty."""

    header: Sequence[str]
    lines: Sequence[_Line]


def _read(path: Path) -> _File:
    """Read the file as CSV.

    Raises:
        ReportError: If it cannot be read, is too large, or has no line below its header.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ReportError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB")
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        lines = [
            _Line(reader.line_num, [cell.strip() for cell in cells])
            for cells in reader  # MAX_BYTES bounds them
            if any(cell.strip() for cell in cells)
        ]
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReportError(f"{path}: not a CSV file in UTF-8: {error}") from error
    if len(lines) < 2:
        raise ReportError(f"{path}: no results; a header and a line per result are needed")
    if len(lines) > MAX_ROWS + 1:
        raise ReportError(f"{path}: more than {MAX_ROWS:,} lines")
    return _File(lines[0].cells, lines[1:])


def _columns(
    header: Sequence[str], protocol: ProtocolMetrics, datasets: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the meaning of each column (a label or a metric), and the faults.

    Args:
        header: Cells of the first line.
        protocol: Protocol of the study.
        datasets: Datasets of a grid over datasets, else [].
    """
    labels = [_CONFIGURATION, _SEED, *([DATASET] if datasets else [])]
    choices = [*labels, *protocol.headings]
    known = {heading.casefold(): metric for metric, heading in protocol.headings.items()}
    known |= {name: name for name in choices}
    columns, faults = [], []
    for text in header:
        name = known.get(text.casefold(), "")
        if not name:
            near = nearest(text, choices)
            suggestion = f"did you mean {near}? " if near else ""
            faults.append(
                f", line 1: unknown column {show(text)} ({suggestion}choices: {', '.join(choices)})"
            )
        elif name in columns:
            faults.append(f", line 1: two columns are {name}")
        columns.append(name)
    faults += [f", line 1: no column {name}" for name in labels if name not in columns]
    metric = protocol.default
    halves = protocol.halves.get(metric, ())
    if halves and {*halves} <= {*columns}:
        return columns, faults
    if halves and datasets:
        # H over datasets is that of the mean halves
        lacking = " and ".join(half for half in halves if half not in columns)
        faults.append(f", line 1: no column {lacking}, which the average over datasets needs")
    elif metric not in columns:
        parts = f", nor both {' and '.join(halves)}" if halves else ""
        faults.append(f", line 1: no column {metric}{parts}")
    return columns, faults


def _add_line(
    line: _Line,
    columns: Sequence[str],
    protocol: ProtocolMetrics,
    datasets: Sequence[str],
    values: dict[str, dict[str, dict[int, dict[str, float]]]],
) -> list[str]:
    """Add a line's metrics to `values`, and return its faults.

    Args:
        line: The line.
        columns: Meaning of each column.
        protocol: Protocol of the study.
        datasets: Datasets of a grid over datasets, else [].
        values: Dataset -> configuration -> seed -> metric -> percentage.
    """
    place = f", line {line.number}"
    if len(line.cells) != len(columns):
        cells = count(len(line.cells), "cell")
        return [f"{place}: {cells}, but the header has {count(len(columns), 'column')}"]
    texts = dict(zip(columns, line.cells, strict=True))
    faults: list[str] = []
    metrics: dict[str, float] = {}
    texts.pop("", None)  # columns that are unknown
    # a column that is absent is a fault of the header
    name, seed = texts.pop(_CONFIGURATION, "-"), texts.pop(_SEED, "0")
    dataset = texts.pop(DATASET, "")
    if DATASET in columns and dataset not in datasets:
        choices = ", ".join(datasets)
        faults.append(
            f"{place}, column {DATASET}: must be one of the study's, got {show(dataset)}"
            f" (choices: {choices})"
        )
    if not name:
        faults.append(f"{place}, column {_CONFIGURATION}: is empty")
    if not _SEED_TEXT.fullmatch(seed):
        faults.append(f"{place}, column {_SEED}: must be a whole number, got {show(seed)}")
    elif _SEED in columns and int(seed) in values.get(dataset, {}).get(name, {}):
        suffix = f" on {dataset}" if dataset else ""
        faults.append(f"{place}: a second result of {show(name)} under seed {seed}{suffix}")
    for metric, text in texts.items():
        if not _NUMBER.fullmatch(text) or float(text) > 100:
            faults.append(
                f"{place}, column {metric}: must be a percentage from 0 to 100, got {show(text)}"
            )
        else:
            metrics[metric] = float(text)
    faults += [f"{place}, {fault}" for fault in _add_harmonic_means(metrics, texts, protocol)]
    if not faults:
        values.setdefault(dataset, {}).setdefault(name, {})[int(seed)] = metrics
    return faults


def _add_harmonic_means(
    metrics: dict[str, float], texts: Mapping[str, str], protocol: ProtocolMetrics
) -> Iterator[str]:
    """Add the absent harmonic means, and yield a fault for each that contradicts its halves.

    The tolerance is what rounding of the three numbers to their decimals may cause.
    """
    for name, halves in protocol.halves.items():
        if not {*halves} <= metrics.keys():
            continue
        first, second = (metrics[half] for half in halves)
        total = first + second
        mean = 2 * first * second / total if total else 0.0
        if name not in texts:
            metrics[name] = mean
        if name not in metrics:
            continue
        slopes = (2 * (second / total) ** 2, 2 * (first / total) ** 2) if total else (2.0, 2.0)
        rounding = _rounding(texts[name]) if name in texts else 0.0
        for half, slope in zip(halves, slopes, strict=True):
            rounding += slope * _rounding(texts[half])
        if abs(metrics[name] - mean) > max(rounding, _LEAST_ROUNDING):
            yield (
                f"column {name}: {texts[name]} contradicts {halves[0]} {texts[halves[0]]} and"
                f" {halves[1]} {texts[halves[1]]}, whose harmonic mean is {mean:.2f}"
            )


def _rounding(text: str) -> float:
    """Return the largest rounding error of a number as it is written."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def _file_faults(values: Mapping[str, ResultsBySeed]) -> list[str]:
    """Return the fault of a file whose accuracies are fractions."""
    numbers = [
        number
        for configurations in values.values()
        for seeds in configurations.values()
        for metrics in seeds.values()
        for number in metrics.values()
    ]
    largest = max(numbers, default=0.0)
    if not 0 < largest <= 1:
        return []
    return [f": percentages from 0 to 100 are needed, but the largest number is {largest:g}"]
