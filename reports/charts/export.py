"""Charts for paper and for a page: colours, fonts and sizes; files by vl-convert.

No browser, no network, fonts embedded.
"""

import json
import re
from typing import Any, Final

from reports.charts.vega import Chart, Spec
from reports.contract import printable_lines

VEGA_LITE = "6.4"  # the version that specifications are written for
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MEMBERS = frozenset(
    {
        "constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString",
        "toString", "valueOf", "__proto__", "__defineGetter__", "__defineSetter__",
        "__lookupGetter__", "__lookupSetter__",
    }
)  # fmt: skip
_SCALE = 4  # pixels of a PNG for one of the specification: 288 dots an inch


FONT: Final = "Liberation Sans, Arial, Helvetica, sans-serif"
COLUMN: Final = 3.3  # inches of a paper's column
DOTS_PER_INCH: Final = 72  # of a specification's pixels on paper


def _look(text: str, rule: str, size: int) -> Spec:
    """A chart's look.

    Args:
        text: colour of words. rule: colour of axes and of grid lines. size: of words, in pixels.
    """
    axis = {
        "labelColor": text, "titleColor": text, "domainColor": rule, "tickColor": rule,
        "gridColor": rule, "gridOpacity": 0.35, "labelFontSize": size, "titleFontSize": size,
        "titleFontWeight": "normal", "labelLimit": 140,
    }  # fmt: skip
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"grid": False},
        "legend": {
            "labelColor": text,
            "titleColor": text,
            "titleFontSize": size,
            "titleFontWeight": "normal",
            "labelFontSize": size,
            "labelLimit": 300,
        },
        "title": {"color": text, "fontSize": size, "fontWeight": "normal", "anchor": "start"},
        "text": {"color": text},
        "header": {"labelColor": text, "titleColor": text},
    }


PAPER: Final = _look("#222222", "#888888", 9) | {"background": "white"}
# An SVG in a page takes the page's own colour: light, dark and print alike.
PAGE: Final = _look("currentColor", "#888888", 11)


def chart_bytes(chart: Chart, inches: float = COLUMN) -> dict[str, bytes]:
    """The chart as {"png", "svg", "pdf"}; PNG and SVG are the same bytes every time.

    Args:
        chart: to be drawn on white.
        inches: the width of the whole picture.
    """
    import vl_convert as vlc

    # so wide as a whole, on white, with the colours of print
    spec = _fitted(chart.spec, PAPER, width=round(inches * DOTS_PER_INCH), padding=4)
    common: Spec = {"vl_version": VEGA_LITE, "allowed_base_urls": []}
    return {
        "png": vlc.vegalite_to_png(spec, scale=_SCALE, ppi=DOTS_PER_INCH, **common),
        "svg": _renumbered(vlc.vegalite_to_svg(spec, **common)).encode(),
        "pdf": vlc.vegalite_to_pdf(spec, **common),
    }


def for_page(spec: Spec) -> Spec:
    """A specification that is as wide as its place in a page, in the page's colours."""
    return _fitted(spec, PAGE, width="container")


def _fitted(spec: Spec, look: Spec, **size: Any) -> Spec:
    autosize = {"type": "fit-x", "contains": "padding"}
    return dict(_drawable({**spec, "autosize": autosize, **size, "config": look}))


def _renumbered(svg: str) -> str:
    """An SVG whose clip paths count from 0, not from where the last chart's ended."""
    names = dict.fromkeys(re.findall(r'id="(clip\d+)"', svg))
    numbers = {name: f"clip{place}" for place, name in enumerate(names)}
    return re.sub(r"\bclip\d+\b", lambda found: numbers.get(found[0], found[0]), svg)


def _drawable(value: Any) -> Any:
    """A specification without texts that cannot be drawn.

    vl-convert dies of characters that XML has not, and others turn the order of what is drawn: they
    are spelled out. Vega takes a label that is called like a member of every JavaScript object for
    that member: it gets a character without a width.
    """
    if isinstance(value, dict):
        return {_drawable(key): _drawable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_drawable(inner) for inner in value]
    if not isinstance(value, str):
        return value
    return f"\u200b{value}" if value in _MEMBERS else _NO_XML.sub("�", printable_lines(value))


def page_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which sets window.vegaEmbed."""
    import vl_convert as vlc

    return str(vlc.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE))


def as_json(value: Any) -> str:
    """JSON that may stand in a page's script element: no text of a store can end it.

    Numbers have the six digits that a chart can show.
    """
    few = json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.6g}"))
    text = json.dumps(few, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text)
