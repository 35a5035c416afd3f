"""The page of a study, and the one over several: what their templates show.

Every text is escaped, every script is the project's own.
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

from harness.store import ARMS, COMPLETE, PRUNED, run_address
from harness.wording import printable_lines
from reports.answer import Answer
from reports.cells import Table, level_text
from reports.charts import Chart, as_json, for_page, page_script
from reports.formatting import PLAIN, STACKED, broken, cell_text
from reports.render.markup import shown
from reports.report import Report
from reports.study import Study, in_words
from reports.tables import factor_labels, setting_groups, spelled

MOST_RUNS = 1_000  # settings whose runs a page lists
_LATEST = 10**14  # of a time that is sound, in ms
# What a reader looks for a study by: what it is called, and the keys that tell it.
SOUGHT = {
    "dataset": ("dataset",),
    "backbone": ("backbone",),
    "method": ("finetuner.name", "generator.name"),
}


def page(report: Report, charts: Sequence[Chart] = ()) -> str:
    """The whole page of a report.

    Args:
        report: tables for programs alone (place "csv") are left out.
        charts: in their order.
    """
    specs = {chart.name: for_page(chart.spec) for chart in charts}
    return page_html(
        "page",
        report=report,
        study=report.study,
        answer=report.answer,
        charts=charts,
        lost=_lost(report),
        runs=_runs(report.study),
        count=len(setting_groups(report.study)),
        most=MOST_RUNS,
        yaml=_yaml(report.study.config),
        vega=Markup(page_script()) if specs else "",
        specs=as_json(specs),
    )


def _runs(study: Study) -> list[tuple[str, str]]:
    """(setting in words, address) of every run of the arms and of the settings that are listed.

    In the order of the settings; of many, those that selection likes best are listed.
    """
    labels = factor_labels(study)
    listed = setting_groups(study)[:MOST_RUNS]
    arms = {one.key: in_words(one.assignment, one.arm) for one in study.settings if one.arm in ARMS}
    named = arms | {group.value.key: spelled(group, labels) for group in listed}
    found = study.rows.select("setting_key", "run_id").unique(maintain_order=True).drop_nulls()
    return [
        (named[key] or arms.get(key) or study.name, address)
        for key, run_id in found.rows()
        if key in named and (address := run_address(study.runs_address, run_id))
    ]


def _lost(report: Report) -> list[tuple[str, int, str]]:
    """(state, rows, reason) of what is in no mean, the most frequent first.

    What the scheduler stopped is told together: each has its own evaluation for a reason.
    """
    rows = report.study.rows
    stopped = pl.when(pl.col("state") == PRUNED).then(None).otherwise(pl.col("reason"))
    lost = rows.filter(rows["state"] != COMPLETE).with_columns(reason=stopped)
    found = lost.group_by("state", "reason", maintain_order=True).len()
    counted = found.sort("len", "state", descending=[True, False], maintain_order=True)
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


def entry(report: Report, page: str) -> dict[str, Any]:
    """A study on the page over several.

    Args:
        report: of the study.
        page: address of its own page, beside this one.
    """
    study = report.study
    sought = {
        name: list(dict.fromkeys(value for key in keys for value in _levels(study, key)))
        for name, keys in SOUGHT.items()
    }
    about = {"page": page, "ran": _days(study), "sought": sought}
    return {"study": study, "answer": report.answer, **about}


def overview(entries: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()) -> str:
    """The page over several studies.

    Args:
        entries: in their order.
        left_out: a line for each study that there is no report of, and why.
    """
    choices = {
        name: sorted({value for entry in entries for value in entry["sought"][name]})
        for name in SOUGHT
    }
    return page_html("overview", entries=entries, choices=choices, left_out=left_out)


def overview_lines(
    entries: Sequence[Mapping[str, Any]], left_out: Sequence[str] = ()
) -> Iterator[str]:
    """The same as plain text, a paragraph a study."""
    for found in entries:
        about = "; ".join(", ".join(values) for values in found["sought"].values() if values)
        yield f"{found['study'].name} ({found['ran']}; {about})"
        yield from (f"  {finding.sentence}" for finding in found["answer"].leading)
    yield from (f"left out: {line}" for line in left_out)


def _levels(study: Study, key: str) -> Iterator[str]:
    """What a study has under a key: its constant, or every level that its settings have."""
    group = key.removesuffix(".name")
    for setting in study.settings:
        value = setting.assignment.get(key, setting.assignment.get(group))
        if value is not None and not setting.arm:
            yield level_text(value.get("name", value) if isinstance(value, dict) else value)
    if (constant := study.constants.get(key, "")) not in ("", "null", "none"):
        yield constant


def _days(study: Study) -> str:
    """The day of its first run, and of its last; a store may hold any number in their place."""
    started = sorted(one for one in study.rows["started"].drop_nulls() if 0 <= one < _LATEST)
    days = [datetime.fromtimestamp(one / 1000, UTC).date() for one in started]
    return " to ".join(str(day) for day in dict.fromkeys(days[:1] + days[-1:])) or "not run"


def page_html(name: str, **told: Any) -> str:
    """A page out of its template, with its script and the style of all pages.

    Args:
        name: of the template.
        told: what it shows.
    """
    folder = files("reports.render") / "templates"
    style, script = ((folder / file).read_text("utf-8") for file in ("page.css", f"{name}.js"))
    return _filled(name, style=Markup(style), script=Markup(script), **told).rstrip() + "\n"


def answer_html(answer: Answer) -> Markup:
    """The answer as a part of a page."""
    return Markup(_filled("answer", answer=answer, rule=answer.rule))


def table_html(table: Table) -> Markup:
    """The table's HTML, without its title and its notes, which the page has around it."""
    dialect = STACKED if table.crowded else PLAIN
    sections = list(shown(table, lambda cell: cell_text(cell, dialect)))
    return Markup(_filled("table", columns=table.page_columns, sections=sections))


def _filled(name: str, **told: Any) -> str:
    return _environment().get_template(f"{name}.html.j2").render(**told)


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("reports.render", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_spelled_out,
    )
    made.filters |= {"foldable": _foldable, "html": table_html}
    return made


def _spelled_out(value: Any) -> Any:
    """What a template shows, without commands to a browser; Markup is the project's own."""
    own = not isinstance(value, str) or isinstance(value, Markup)
    return value if own else printable_lines(value)


def _foldable(heading: str) -> Markup:
    """A heading that a browser may break, where it must, within dataset names, too."""
    words = printable_lines(heading).split(" ")
    return Markup(" ").join(Markup("<wbr>").join(map(escape, broken(word))) for word in words)
