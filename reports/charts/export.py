"""Styles of charts in papers and on pages, and the export of charts to files by vl-convert.

The export needs no browser and no network, and embeds fonts.
"""

import json
from typing import Any, Final

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from harness.wording import escape_controls_in_lines
from reports.charts.vega import Chart, Spec

VEGA_LITE = "6.4"  # Vega-Lite version of the specifications
FONT: Final = "Liberation Sans, Arial, Helvetica, sans-serif"
COLUMN: Final = 3.3  # width of a paper's column, in inches
DOTS_PER_INCH: Final = 72  # pixels of a specification per inch on paper
_SCALE = 4  # PNG pixels per pixel of a specification, i.e. 288 dots per inch


def _make_style(text: str, rule: str, size: int) -> Spec:
    """Return a chart's style as a Vega-Lite config.

    Args:
        text: Color of text.
        rule: Color of axes and grid lines.
        size: Font size in pixels.
    """
    text_style = {"fill": text, "fontSize": size, "fontWeight": "normal"}
    lines = {"domainColor": rule, "tickColor": rule, "gridColor": rule, "gridOpacity": 0.35}
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {**lines, "labelLimit": 140},
        "axisX": {"grid": False},
        "legend": {"labelLimit": 300},
        "style": dict.fromkeys(("guide-label", "guide-title", "group-title"), text_style),
        "title": {"anchor": "start"},
        "text": {"color": text},
    }


PAPER: Final = _make_style("#222222", "#888888", 9) | {"background": "white"}
# An SVG in a page inherits the page's color, which differs between light, dark and print.
PAGE: Final = _make_style("currentColor", "#888888", 11)


def render_chart(chart: Chart) -> dict[str, bytes]:
    """Return the chart's files by format: "png", "svg" and "pdf".

    The chart has a white background and the width of a paper's column. The bytes of the PNG are
    reproducible.
    """
    import vl_convert as vlc

    spec = _fit_spec(chart.spec, PAPER, width=round(COLUMN * DOTS_PER_INCH), padding=4)
    options: Spec = {"vl_version": VEGA_LITE, "allowed_base_urls": []}
    return {
        "png": vlc.vegalite_to_png(spec, scale=_SCALE, ppi=DOTS_PER_INCH, **options),
        "svg": vlc.vegalite_to_svg(spec, **options).encode(),
        "pdf": vlc.vegalite_to_pdf(spec, **options),
    }


def adapt_style_to_page(spec: Spec) -> Spec:
    """Return a specification that fills the width of its container and uses the page's colors."""
    return _fit_spec(spec, PAGE, width="container")


def _fit_spec(spec: Spec, style: Spec, **size: Any) -> Spec:
    """Return a drawable specification with a style and a size."""
    autosize = {"type": "fit-x", "contains": "padding"}
    return dict(_replace_undrawable({**spec, "autosize": autosize, **size, "config": style}))


def _replace_undrawable(value: Any) -> Any:
    """Return a specification in which unprintable characters are replaced by their codes.

    vl-convert fails on characters that are invalid in XML. Bidirectional marks would reorder the
    text.
    """
    if isinstance(value, dict):
        return {key: _replace_undrawable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_undrawable(item) for item in value]
    return escape_controls_in_lines(value) if isinstance(value, str) else value


def make_page_script() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script that sets window.vegaEmbed.

    The first call in a process takes a second; vl-convert then caches the script.
    """
    import vl_convert as vlc

    # its type stub requires a snippet
    return str(vlc.javascript_bundle(vl_version=VEGA_LITE))  # type: ignore[call-arg]


def to_safe_json(value: Any) -> Markup:
    """Return JSON that is safe in a page's script element: no text in it can close the element.

    Numbers are rounded to six significant digits, which is enough for a chart.
    """
    rounded_value = json.loads(
        json.dumps(value), parse_float=lambda text: float(f"{float(text):.6g}")
    )
    return htmlsafe_json_dumps(
        rounded_value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
