"""The files of a report: made whole or not at all."""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reports.contract import ReportError
from reports.read import Study
from reports.render.figures import factor_figure, figure_bytes
from reports.render.html import page
from reports.render.latex import latex
from reports.render.plain import csv_stream, csv_text, markdown
from reports.render.terminal import terminal_text
from reports.tables import Table, averaged, dataset_factor, with_metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def text_of(form: str, tables: Sequence[Table]) -> str:
    """All tables as terminal, markdown, latex or csv text (CSV: one for all, see csv_stream)."""
    match form:
        case "markdown":
            return markdown(tables)
        case "latex":
            return latex(tables)
        case "csv":
            return csv_stream(tables)
        case _:
            return terminal_text(tables)


def write_report(
    study: Study, tables: Sequence[Table], metric: str | None, out: Path
) -> list[Path]:
    """Write every format, the rows behind the tables and the figures.

    Args:
        metric: what the figures are of; None: the protocol's default.

    Returns:
        The files, in the order written.

    Raises:
        ReportError: the folder cannot be written.
    """
    files: dict[str, bytes] = {}
    pictures = []
    name = file_name(study.name)
    for factor, figure in _figures(*with_metric(study, metric)):
        drawn = figure_bytes(figure)
        pictures.append(drawn["png"])
        files |= {f"{name}-{file_name(factor)}.{kind}": data for kind, data in drawn.items()}
    texts = {
        f"{name}.txt": terminal_text(tables),
        f"{name}.md": markdown(tables),
        f"{name}.tex": latex(tables),
        **{f"{name}-{file_name(table.name)}.csv": csv_text(table) for table in tables},
        f"{name}-rows.csv": study.rows.write_csv(),
        f"{name}.html": page(study.name, tables, pictures),
    }
    files = {file: text.encode() for file, text in texts.items()} | files
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [_replace(out / file, data) for file, data in files.items()]
    except OSError as error:
        raise ReportError(f"{out}: cannot write the report: {error.strerror or error}") from error


def _figures(study: Study, metric: str) -> Iterator[tuple[str, "Figure"]]:
    """A figure for each factor; over datasets, of the averages, and one of the datasets."""
    over = dataset_factor(study)
    whole = study if over is None else averaged(study, over)
    for factor in study.factors:
        # The reference arms ran on one dataset: no line across all of them.
        source = study if factor == over else whole
        figure = factor_figure(source, factor, metric, arms=factor != over) if source else None
        if figure is not None:
            yield factor.key, figure


def file_name(text: str) -> str:
    """A name without what leads to another folder, or what no file may be called.

    Names of studies, factors and datasets come from the store, where others may write.
    """
    return re.sub(r"[^\w.-]", "-", text)


def _replace(path: Path, data: bytes) -> Path:
    """Write beside the target, then rename: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        temporary.chmod(0o644)  # mkstemp's are private, a report is for reading
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
