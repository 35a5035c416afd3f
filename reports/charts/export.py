"""Charts as files, by vl-convert: no browser, no network, fonts embedded."""

import json
import re
from typing import Any

from reports.charts.model import Chart
from reports.charts.theme import COLUMN, DOTS_PER_INCH, PAGE, PAPER
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


def chart_bytes(chart: Chart, inches: float = COLUMN) -> dict[str, bytes]:
    """The chart as {"png", "svg", "pdf"}; PNG and SVG are the same bytes every time.

    Args:
        chart: to be drawn on white.
        inches: the width of the whole picture.
    """
    import vl_convert as vlc

    spec = sized(chart.spec, inches)
    common: dict[str, Any] = {"vl_version": VEGA_LITE, "allowed_base_urls": []}
    return {
        "png": vlc.vegalite_to_png(spec, scale=_SCALE, ppi=DOTS_PER_INCH, **common),
        "svg": _renumbered(vlc.vegalite_to_svg(spec, **common)).encode(),
        "pdf": vlc.vegalite_to_pdf(spec, **common),
    }


def _renumbered(svg: str) -> str:
    """An SVG whose clip paths count from 0, not from where the last chart's ended."""
    names = dict.fromkeys(re.findall(r'id="(clip\d+)"', svg))
    numbers = {name: f"clip{place}" for place, name in enumerate(names)}
    return re.sub(r"\bclip\d+\b", lambda found: numbers.get(found[0], found[0]), svg)


def sized(spec: dict[str, Any], inches: float) -> dict[str, Any]:
    """A specification for paper: so wide as a whole, on white, with the colours of print."""
    wide = round(inches * DOTS_PER_INCH)
    autosize = {"type": "fit-x", "contains": "padding"}
    whole = {**spec, "autosize": autosize, "width": wide, "padding": 4}
    return dict(_drawable({**whole, "config": PAPER}))


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


def for_page(spec: dict[str, Any]) -> dict[str, Any]:
    """A specification that is as wide as its place in a page, in the page's colours."""
    autosize = {"type": "fit-x", "contains": "padding"}
    whole = {**spec, "autosize": autosize, "width": "container", "config": PAGE}
    return dict(_drawable(whole))


def page_script() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which sets window.vegaEmbed."""
    import vl_convert as vlc

    return str(vlc.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE))


def as_json(value: Any) -> str:
    """JSON that may stand in a page's script element: no text of a store can end it.

    Numbers have the six digits that a chart can show.
    """
    text = json.dumps(_rounded(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    escapes = {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
    for character, escape in escapes.items():
        text = text.replace(character, escape)
    return text


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
