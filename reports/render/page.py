"""The page, out of its template: every text is escaped, every script is the project's own."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from io import StringIO
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from reports.charts import Chart, as_json, for_page, page_script
from reports.contract import ARMS, COMPLETE, PRUNED, printable_lines
from reports.read import Study, run_address
from reports.render.markup import table_html
from reports.report import Report
from reports.tables import Table, factor_labels, setting_groups, spelled

_HERE = "reports.render"


def page(report: Report, charts: Sequence[Chart] = ()) -> str:
    """The whole page of a report.

    Args:
        report: tables for programs alone (place "csv") are left out.
        charts: in their order.
    """
    specs = {chart.name: for_page(chart.spec) for chart in charts}
    text = template("page.html.j2").render(
        stamp=report.stamp,
        study=report.study,
        answer=report.answer,
        parts=list(_parts(report, charts)),
        lost=_lost(report),
        runs=_runs(report.study),
        yaml=_yaml(report.study.config),
        style=Markup(text_file("page.css")),
        script=Markup(text_file("page.js")),
        vega=Markup(page_script()) if specs else "",
        specs=Markup(as_json(specs)),
    )
    return text.rstrip() + "\n"


def template(name: str) -> Template:
    """A template of this package, which escapes what it is given."""
    loader = PackageLoader(_HERE, "templates")
    made = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, finalize=_spelled_out
    )
    return made.get_template(name)


def text_file(name: str) -> str:
    """A file beside the templates."""
    return (files(_HERE) / "templates" / name).read_text(encoding="utf-8")


def _spelled_out(value: Any) -> Any:
    """What the template shows, without commands to a browser; Markup is the project's own."""
    return printable_lines(value) if type(value) is str else value


def _parts(report: Report, charts: Sequence[Chart]) -> Iterator[dict[str, Any]]:
    """The page's parts between the answer and its end, those left out that are empty."""
    parts: list[tuple[str, str, Sequence[Table]]] = [
        ("figures", "Figures", ()),
        ("tables", "Tables", report.main),
        ("together", "Factors together", report.together),
        ("training", "Training", ()),
        ("settings", "Cost and feature quality", report.beside),
    ]
    for name, title, tables in parts:
        own = [chart for chart in charts if chart.section == name]
        shown = [_shown(table) for table in tables if table.place != "csv"]
        if own or shown:
            yield {"name": name, "title": title, "charts": own, "tables": shown}


def _shown(table: Table) -> dict[str, Any]:
    return {"table": table, "html": Markup(table_html(table))}


def _runs(study: Study) -> list[tuple[str, str]]:
    """(setting in words, address) of every run, in the order of the settings."""
    labels = factor_labels(study)
    named = {group.value.key: spelled(group, labels) for group in setting_groups(study)}
    arms = {setting.key: ARMS[setting.arm][0] for setting in study.settings if setting.arm in ARMS}
    found = study.rows.select("setting_key", "run_id").unique(maintain_order=True).drop_nulls()
    return [
        (named.get(key) or arms.get(key) or study.name, address)
        for key, run_id in found.rows()
        if (address := run_address(study.runs_address, run_id))
    ]


def _lost(report: Report) -> list[tuple[str, int, str]]:
    """(state, rows, reason) of what is in no mean, the most frequent first.

    What the scheduler stopped is told together: each has its own evaluation for a reason.
    """
    rows = report.study.rows
    stopped = pl.when(pl.col("state") == PRUNED).then(None).otherwise(pl.col("reason"))
    lost = rows.filter(rows["state"] != COMPLETE).with_columns(reason=stopped)
    counted = lost.group_by("state", "reason").len().sort("len", "state", descending=[True, False])
    return [(state, count, reason or "") for state, reason, count in counted.rows()]


def _yaml(config: dict[str, Any]) -> str:
    """The study as YAML, without what is at none."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = StringIO()
    yaml.dump(_given(config), stream)
    return stream.getvalue()


def _given(value: Any) -> Any:
    """A configuration without empty entries."""
    if isinstance(value, dict):
        kept = {key: _given(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner not in (None, {}, "")}
    return value
