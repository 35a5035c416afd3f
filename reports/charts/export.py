"""Charts for paper and for a page: colours, fonts and sizes; files by vl-convert.

No browser, no network, fonts embedded.
"""

import json
from typing import Any, Final

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from harness.wording import printable_lines
from reports.charts.vega import Chart, Spec

VEGA_LITE = "6.4"  # the version that specifications are written for
_SCALE = 4  # pixels of a PNG for one of the specification: 288 dots an inch


FONT: Final = "Liberation Sans, Arial, Helvetica, sans-serif"
COLUMN: Final = 3.3  # inches of a paper's column
DOTS_PER_INCH: Final = 72  # of a specification's pixels on paper


def _look(text: str, rule: str, size: int) -> Spec:
    """A chart's look.

    Args:
        text: colour of words. rule: colour of axes and of grid lines. size: of words, in pixels.
    """
    words = {"fill": text, "fontSize": size, "fontWeight": "normal"}
    lines = {"domainColor": rule, "tickColor": rule, "gridColor": rule, "gridOpacity": 0.35}
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {**lines, "labelLimit": 140},
        "axisX": {"grid": False},
        "legend": {"labelLimit": 300},
        "style": dict.fromkeys(("guide-label", "guide-title", "group-title"), words),
        "title": {"anchor": "start"},
        "text": {"color": text},
    }


PAPER: Final = _look("#222222", "#888888", 9) | {"background": "white"}
# An SVG in a page takes the page's own colour: light, dark and print alike.
PAGE: Final = _look("currentColor", "#888888", 11)


def chart_bytes(chart: Chart) -> dict[str, bytes]:
    """The chart as {"png", "svg", "pdf"}, on white and as wide as a paper's column.

    PNG is the same bytes every time.
    """
    import vl_convert as vlc

    spec = _fitted(chart.spec, PAPER, width=round(COLUMN * DOTS_PER_INCH), padding=4)
    common: Spec = {"vl_version": VEGA_LITE, "allowed_base_urls": []}
    return {
        "png": vlc.vegalite_to_png(spec, scale=_SCALE, ppi=DOTS_PER_INCH, **common),
        "svg": vlc.vegalite_to_svg(spec, **common).encode(),
        "pdf": vlc.vegalite_to_pdf(spec, **common),
    }


def for_page(spec: Spec) -> Spec:
    """A specification that is as wide as its place in a page, in the page's colours."""
    return _fitted(spec, PAGE, width="container")


def _fitted(spec: Spec, look: Spec, **size: Any) -> Spec:
    autosize = {"type": "fit-x", "contains": "padding"}
    return dict(_drawable({**spec, "autosize": autosize, **size, "config": look}))


def _drawable(value: Any) -> Any:
    """A specification without texts that cannot be drawn.

    vl-convert dies of characters that XML has not, and others turn the order of what is drawn: they
    are spelled out.
    """
    if isinstance(value, dict):
        return {key: _drawable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_drawable(inner) for inner in value]
    return printable_lines(value) if isinstance(value, str) else value


def page_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which sets window.vegaEmbed."""
    import vl_convert as vlc

    return str(vlc.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE))


def as_json(value: Any) -> Markup:
    """JSON that may stand in a page's script element: no text of a store can end it.

    Numbers have the six digits that a chart can show.
    """
    few = json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.6g}"))
    return htmlsafe_json_dumps(few, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
