"""Results from outside the store, read from a CSV file with a row per configuration and seed."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.store import SEPARATE_FACTORS, ProtocolMetrics
from harness.wording import count, find_closest, show
from reports.errors import ReportError, ReportFaults
from reports.study import ExternalResults, ResultsBySeed, Study
from reports.tables.over_datasets import DATASET, list_datasets

_CONFIGURATION, _SEED = "configuration", "seed"
MAX_BYTES: Final = 10_000_000  # size of the file
MAX_ROWS: Final = 100_000  # rows of the file without the header
MAX_FAULTS: Final = 20  # faults in a message
# A harmonic mean may always differ from that of its halves by this many points.
_MIN_TOLERANCE = 1e-3
_NUMBER = re.compile(r"\d{1,3}(\.\d*)?|\.\d+")
_SEED_DIGITS = 9
_SEED_TEXT = re.compile(f"[0-9]{{1,{_SEED_DIGITS}}}")


def with_external(study: Study, path: Path) -> Study:
    """Add the results of a CSV file to a study, whose tables then show them as external results.

    The columns of the file are:

    - `configuration`: any name.
    - `seed`: a whole number of at most 9 digits.
    - `dataset`: only for a grid over datasets.
    - Metrics of the study's protocol in percent, by name (`base`) or heading (`Base`). The main
      metric is required, or, if it is a harmonic mean, its two halves, from which it is then
      computed. A grid over datasets requires the halves, because H of the average is computed from
      the averages of the halves.

    Args:
        study: Study of one dataset, or a grid over datasets.
        path: Path of the file.

    Returns:
        A copy of the study with the results.

    Raises:
        ReportError: If a factor of the study changes the test classes (other than the dataset of a
            grid), or if the file cannot be read, is too large or has no results.
        ReportFaults: If the content of the file is invalid. It is a ReportError.

    Example:
        >>> study = with_external(load_records("prompt_len"), Path("ours.csv"))  # doctest: +SKIP
    """
    datasets = list_datasets(study)
    class_factors = [factor.key for factor in study.factors if factor.key in SEPARATE_FACTORS]
    if datasets:
        class_factors.remove(DATASET)
    if class_factors:
        raise ReportError(
            f"{study.name}: external results need a study of one set of classes per dataset,"
            f" got the factor {class_factors[0]}"
        )
    content = _read(path)
    columns, faults = _parse_header(content.header, study.protocol, datasets)
    values: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    for line in content.lines:
        faults += _add_line(line, columns, study.protocol, datasets, values)
    faults += _scale_faults(values)
    if faults:
        messages = [f"{path.name}{fault}" for fault in faults[:MAX_FAULTS]]
        n_more = len(faults) - MAX_FAULTS
        if n_more > 0:
            messages.append(f"{path.name}: {count(n_more, 'more fault')}")
        raise ReportFaults(messages)
    return replace(study, external=ExternalResults(path.name, values))


@dataclass(frozen=True)
class _Line:
    """A line of the file that is not blank.

    Attributes:
        number: Number of the line in the file, counted from 1.
        cells: The cells, stripped of surrounding spaces.
    """

    number: int
    cells: Sequence[str]

    @property
    def place(self) -> str:
        """The line as part of a message, after the name of the file: ", line 3"."""
        return f", line {self.number}"


@dataclass(frozen=True)
class _File:
    """The lines of the file that are not blank: the header, then one line per result."""

    header: _Line
    lines: Sequence[_Line]


def _read(path: Path) -> _File:
    """Read the file as CSV.

    Raises:
        ReportError: If the file cannot be read, is not a CSV file in UTF-8, is too large, or has no
            lines below its header.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ReportError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB")
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        lines = [
            _Line(reader.line_num, [cell.strip() for cell in cells])
            for cells in reader  # MAX_BYTES limits the number of lines in memory
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
    return _File(lines[0], lines[1:])


def _parse_header(
    header: _Line, protocol: ProtocolMetrics, datasets: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Identify the columns of the file.

    Args:
        header: Line with the names of the columns.
        protocol: Protocol of the study.
        datasets: Datasets of a grid over datasets, else [].

    Returns:
        The canonical name of each column (_CONFIGURATION, _SEED, DATASET, the name of a metric, or
        "" for an unknown column), and the faults of the header.
    """
    place = header.place
    required_names = [_CONFIGURATION, _SEED, *([DATASET] if datasets else [])]
    choices = [*required_names, *protocol.headings]
    names_by_text = {heading.casefold(): metric for metric, heading in protocol.headings.items()}
    names_by_text |= {name: name for name in choices}
    columns, faults = [], []
    for text in header.cells:
        name = names_by_text.get(text.casefold(), "")
        if not name:
            match = find_closest(text, choices)
            suggestion = f"did you mean {match}? " if match else ""
            faults.append(
                f"{place}: unknown column {show(text)} ({suggestion}choices: {', '.join(choices)})"
            )
        elif name in columns:
            faults.append(f"{place}: two columns are {name}")
        columns.append(name)
    faults += [f"{place}: no column {name}" for name in required_names if name not in columns]
    metric = protocol.default
    halves = protocol.halves.get(metric, ())
    if halves and {*halves} <= {*columns}:
        return columns, faults
    if halves and datasets:
        # H of the average over datasets is computed from the averages of its halves
        absent_halves = " and ".join(half for half in halves if half not in columns)
        faults.append(f"{place}: no column {absent_halves}, which the average over datasets needs")
    elif metric not in columns:
        alternative = f", nor both {' and '.join(halves)}" if halves else ""
        faults.append(f"{place}: no column {metric}{alternative}")
    return columns, faults


def _add_line(
    line: _Line,
    columns: Sequence[str],
    protocol: ProtocolMetrics,
    datasets: Sequence[str],
    values: dict[str, dict[str, dict[int, dict[str, float]]]],
) -> list[str]:
    """Add a line's metrics to `values` if the line is valid; return its faults.

    Args:
        line: The line.
        columns: Canonical name of each column; see _parse_header.
        protocol: Protocol of the study.
        datasets: Datasets of a grid over datasets, else [].
        values: Dataset -> configuration -> seed -> metric -> percentage. The dataset is "" if the
            study is not a grid over datasets.
    """
    place = line.place
    if len(line.cells) != len(columns):
        cells = count(len(line.cells), "cell")
        return [f"{place}: {cells}, but the header has {count(len(columns), 'column')}"]
    texts = dict(zip(columns, line.cells, strict=True))
    faults: list[str] = []
    metrics: dict[str, float] = {}
    # unknown and absent columns are already faults of the header; the defaults cause no others
    texts.pop("", None)
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
        rule = f"must be a whole number of at most {_SEED_DIGITS} digits"
        faults.append(f"{place}, column {_SEED}: {rule}, got {show(seed)}")
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
    """Add absent harmonic means, and yield a fault for each that contradicts its halves.

    A harmonic mean may deviate by as much as rounding of the three numbers to their decimals can
    explain.

    Args:
        metrics: Valid metrics of a line by name. Harmonic means are added in place.
        texts: Cells of the line by name of the metric, valid or not.
        protocol: Protocol of the study.
    """
    for name, halves in protocol.halves.items():
        if not {*halves} <= metrics.keys():
            continue
        half_a, half_b = (metrics[half] for half in halves)
        total = half_a + half_b
        mean = 2 * half_a * half_b / total if total else 0.0
        if name not in texts:
            metrics[name] = mean
            continue
        if name not in metrics:  # the cell is invalid, which is already a fault
            continue
        # derivatives of the harmonic mean with respect to each half
        slopes = (2 * (half_b / total) ** 2, 2 * (half_a / total) ** 2) if total else (2.0, 2.0)
        tolerance = _get_max_rounding_error(texts[name])
        for half, slope in zip(halves, slopes, strict=True):
            tolerance += slope * _get_max_rounding_error(texts[half])
        if abs(metrics[name] - mean) > max(tolerance, _MIN_TOLERANCE):
            yield (
                f"column {name}: {texts[name]} contradicts {halves[0]} {texts[halves[0]]} and"
                f" {halves[1]} {texts[halves[1]]}, whose harmonic mean is {mean:.2f}"
            )


def _get_max_rounding_error(text: str) -> float:
    """Return the largest error from rounding a number to the decimals in `text`."""
    return 0.5 * 10.0 ** -len(text.partition(".")[2])


def _scale_faults(values: Mapping[str, ResultsBySeed]) -> list[str]:
    """Return a fault if the numbers are probably fractions, because none exceeds 1; else []."""
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
