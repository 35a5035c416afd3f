"""HTML out of the templates: every text is escaped, every script is the project's own."""

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from reports.answer import Answer
from reports.contract import printable_lines
from reports.render.markup import shown
from reports.tables import PLAIN, STACKED, Table, broken, cell_text

_HERE = "reports.render"


def page_html(name: str, **told: Any) -> str:
    """A page out of its template, with its script and the style of all pages.

    Args:
        name: of the template.
        told: what it shows.
    """
    folder = files(_HERE) / "templates"
    style, script = ((folder / file).read_text("utf-8") for file in ("page.css", f"{name}.js"))
    return _filled(name, style=Markup(style), script=Markup(script), **told).rstrip() + "\n"


def answer_html(answer: Answer) -> Markup:
    """The answer as a part of a page."""
    return Markup(_filled("answer", answer=answer, best="", rule=answer.rule))


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
        loader=PackageLoader(_HERE, "templates"),
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
