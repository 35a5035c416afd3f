"""HTML pages of one study, of two compared studies, and of several studies.

All text is escaped. Pages contain their scripts, which are from this package or from vl-convert,
and load nothing from the network.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from io import StringIO
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from harness.store import COMPLETE, CONTROLS, PRUNED, run_address
from harness.wording import escape_controls_in_lines
from reports.answer import Answer
from reports.cells import Table, format_level
from reports.charts import Chart, adapt_style_to_page, make_page_script, to_safe_json
from reports.formatting import PLAIN, STACKED, break_heading, format_cell_text
from reports.render.markup import format_sections
from reports.report import PairedReport, Report
from reports.study import Study, format_configuration
from reports.tables import format_group_name, make_configuration_groups, make_label_columns

MAX_RUNS = 1_000  # maximum number of configurations whose runs are listed on a page
_LATEST = 10**14  # times from here on are invalid, in ms since 1970
# Filter of the overview page -> options whose values it offers.
FILTERS = {
    "dataset": ("dataset",),
    "backbone": ("backbone",),
    "method": ("finetuner.name", "generator.name"),
}


def report_page(report: Report, charts: Sequence[Chart] = ()) -> str:
    """Return the page of a report.

    Args:
        report: The report. Its tables with the place "csv" are left out.
        charts: Charts in the order of the page. () for a page without figures.
    """
    specs = {chart.name: adapt_style_to_page(chart.spec) for chart in charts}
    return render_page(
        "page",
        report=report,
        study=report.study,
        answer=report.answer,
        charts=charts,
        rows_without_mean=_count_rows_without_mean(report),
        runs=_run_links(report.study),
        n_configurations=len(make_configuration_groups(report.study)),
        max_configurations=MAX_RUNS,
        yaml=_to_yaml(report.study.config),
        vega=Markup(make_page_script()) if specs else "",
        specs=to_safe_json(specs),
    )


def render_paired_page(report: PairedReport) -> str:
    """Return the page of two compared studies."""
    return render_page("paired", "page", report=report, answer=report.answer)


def _run_links(study: Study) -> list[tuple[str, str]]:
    """Return (configuration as text, address) for each run that has an address.

    If there are more than MAX_RUNS configurations, only runs of the controls and of the MAX_RUNS
    configurations with the best selection scores are listed.
    """
    labels = make_label_columns(study)
    groups = make_configuration_groups(study)[:MAX_RUNS]
    controls = {
        configuration.key: format_configuration(configuration.assignment, configuration.control)
        for configuration in study.configurations
        if configuration.control in CONTROLS
    }
    names = controls | {group.value.key: format_group_name(group, labels) for group in groups}
    runs = study.rows.select("config_key", "run_id").unique(maintain_order=True).drop_nulls()
    return [
        (names[key] or controls.get(key) or study.name, address)
        for key, run_id in runs.rows()
        if key in names and (address := run_address(study.runs_address, run_id))
    ]


def _count_rows_without_mean(report: Report) -> list[tuple[str, int, str]]:
    """Count the unfinished rows, which are in no mean, by state and reason.

    Pruned rows are counted together, because each has a different reason.

    Returns:
        (state, number of rows, reason), the largest number first. The reason may be "".
    """
    rows = report.study.rows
    reason_or_none = pl.when(pl.col("state") == PRUNED).then(None).otherwise(pl.col("reason"))
    unfinished = rows.filter(rows["state"] != COMPLETE).with_columns(reason=reason_or_none)
    counts = unfinished.group_by("state", "reason", maintain_order=True).len()
    sorted_counts = counts.sort("len", "state", descending=[True, False], maintain_order=True)
    return [(state, count, reason or "") for state, reason, count in sorted_counts.rows()]


def _to_yaml(config: dict[str, Any]) -> str:
    """Return a study's config as YAML, without empty entries."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = StringIO()
    yaml.dump(_drop_empty(config), stream)
    return stream.getvalue()


def _drop_empty(value: Any) -> Any:
    """Return a value without the entries of mappings, at any depth, that are None, {} or ""."""
    if isinstance(value, dict):
        items = {key: _drop_empty(item) for key, item in value.items()}
        return {key: item for key, item in items.items() if item not in (None, {}, "")}
    return value


def make_entry(report: Report, page: str) -> dict[str, Any]:
    """Return the entry of a study on the overview page.

    Args:
        report: Report of the study.
        page: Address of the study's own page, relative to the overview page.
    """
    study = report.study
    filter_values = {
        name: list(
            dict.fromkeys(value for key in keys for value in _format_level_values(study, key))
        )
        for name, keys in FILTERS.items()
    }
    fields = {"page": page, "ran": _run_days(study), "filter_values": filter_values}
    return {"study": study, "answer": report.answer, **fields}


def render_overview_page(entries: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()) -> str:
    """Return the overview page of several studies.

    Args:
        entries: Entries in the order of the page; see make_entry.
        left_out: One line per study without a report, with the reason.
    """
    choices = {
        name: sorted({value for entry in entries for value in entry["filter_values"][name]})
        for name in FILTERS
    }
    return render_page("overview", entries=entries, choices=choices, left_out=left_out)


def make_overview_lines(
    entries: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the lines of the overview page as plain text.

    Args:
        entries: Entries in the order of the page; see make_entry.
        left_out: One line per study without a report, with the reason.
    """
    for study_entry in entries:
        details = "; ".join(
            ", ".join(values) for values in study_entry["filter_values"].values() if values
        )
        yield f"{study_entry['study'].name} ({study_entry['ran']}; {details})"
        yield from (f"  {finding.sentence}" for finding in study_entry["answer"].leading)
    yield from (f"no report: {line}" for line in left_out)


def _format_level_values(study: Study, key: str) -> Iterator[str]:
    """Yield a study's values of an option: its level in each configuration, and its constant.

    Args:
        study: The study.
        key: Dotted name of the option. The level of a method counts as the level of its name, e.g.
            that of "generator" as that of "generator.name".
    """
    group = key.removesuffix(".name")
    for configuration in study.configurations:
        value = configuration.assignment.get(key, configuration.assignment.get(group))
        if value is not None and not configuration.control:
            yield format_level(value.get("name", value) if isinstance(value, dict) else value)
    if (constant := study.constants.get(key, "")) not in ("", "null", "none"):
        yield constant


def _run_days(study: Study) -> str:
    """Return the days of the first and last run as text, or "not run" without a valid time."""
    start_times = sorted(time for time in study.rows["started"].drop_nulls() if 0 <= time < _LATEST)
    days = [datetime.fromtimestamp(time / 1000, UTC).date() for time in start_times]
    return " to ".join(str(day) for day in dict.fromkeys(days[:1] + days[-1:])) or "not run"


def render_page(name: str, script_of: str = "", **values: Any) -> str:
    """Render a page from its template, with a script and the style that all pages share.

    Args:
        name: Name of the template.
        script_of: Name of the script. Defaults to the name of the template.
        values: Variables of the template.
    """
    folder = files("reports.render") / "templates"
    names = ("page.css", f"{script_of or name}.js")
    style, script = ((folder / file).read_text("utf-8") for file in names)
    return _render(name, style=Markup(style), script=Markup(script), **values).rstrip() + "\n"


def render_answer(answer: Answer) -> Markup:
    """Return the answer as an HTML fragment."""
    return Markup(_render("answer", answer=answer, rule=answer.rule))


def render_table(table: Table) -> Markup:
    """Return the table as HTML, without its title and notes."""
    dialect = STACKED if table.is_crowded else PLAIN
    sections = list(format_sections(table, lambda cell: format_cell_text(cell, dialect)))
    return Markup(_render("table", columns=table.page_columns, sections=sections))


def _render(name: str, **values: Any) -> str:
    """Render the template NAME.html.j2."""
    return _make_environment().get_template(f"{name}.html.j2").render(**values)


@cache
def _make_environment() -> Environment:
    """Return the cached environment of the templates."""
    environment = Environment(
        loader=PackageLoader("reports.render", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escape_controls,
    )
    environment.filters |= {"foldable": _add_breaks, "html": render_table}
    return environment


def _escape_controls(value: Any) -> Any:
    """Replace control characters in text. Markup is trusted and, like other values, unchanged."""
    is_trusted = not isinstance(value, str) or isinstance(value, Markup)
    return value if is_trusted else escape_controls_in_lines(value)


def _add_breaks(heading: str) -> Markup:
    """Return a heading with optional line breaks within names of datasets."""
    words = escape_controls_in_lines(heading).split(" ")
    return Markup(" ").join(
        Markup("<wbr>").join(map(escape, break_heading(word))) for word in words
    )
