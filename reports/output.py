"""The files of a report: made whole or not at all."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from reports.figures import factor_figure, figure_bytes
from reports.html import page
from reports.latex import latex
from reports.model import Table
from reports.plain import csv_text, markdown
from reports.records import Study
from reports.schema import ReportError
from reports.terminal import terminal_text


def text_of(form: str, tables: Sequence[Table]) -> str:
    """All tables as terminal, markdown, latex or csv text (CSV: a blank line between tables)."""
    match form:
        case "markdown":
            return markdown(tables)
        case "latex":
            return latex(tables)
        case "csv":
            return "\n".join(csv_text(table) for table in tables)
        case _:
            return terminal_text(tables)


def write_report(study: Study, tables: Sequence[Table], metric: str, out: Path) -> list[Path]:
    """Write every format, the rows behind the tables and the figures.

    Returns:
        The files, in the order written.

    Raises:
        ReportError: the folder cannot be written.
    """
    files: dict[str, bytes] = {}
    pictures = []
    for factor in study.factors:
        figure = factor_figure(study, factor, metric)
        if figure is not None:
            drawn = figure_bytes(figure)
            pictures.append(drawn["png"])
            files |= {f"{study.name}-{factor.key}.{kind}": data for kind, data in drawn.items()}
    texts = {
        f"{study.name}.txt": terminal_text(tables),
        f"{study.name}.md": markdown(tables),
        f"{study.name}.tex": latex(tables),
        **{f"{study.name}-{table.name}.csv": csv_text(table) for table in tables},
        f"{study.name}-rows.csv": study.rows.write_csv(),
        f"{study.name}.html": page(study.name, tables, pictures),
    }
    files = {name: text.encode() for name, text in texts.items()} | files
    try:
        out.mkdir(parents=True, exist_ok=True)
        return [_replace(out / name, data) for name, data in files.items()]
    except OSError as error:
        raise ReportError(f"{out}: cannot write the report: {error.strerror or error}") from error


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
