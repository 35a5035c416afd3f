"""Colours, fonts and sizes: for paper, for a light page, and for a dark one."""

from typing import Any, Final

# Okabe and Ito's colours: told apart by colour-blind readers; arms differ by their dashes, too.
MEAN: Final = "#0072B2"
DOT: Final = "#56B4E9"
SECOND: Final = "#D55E00"
ARMS: Final = {
    "zero_shot": ("#777777", [1, 2]),
    "no_synthetic": ("#D55E00", [6, 2]),
    "text_feature": ("#009E73", [6, 2, 1, 2]),
    "real_pictures": ("#CC79A7", [10, 3]),
}
FONT: Final = "Liberation Sans, Arial, Helvetica, sans-serif"
COLUMN: Final = 3.3  # inches of a paper's column
WHOLE: Final = 6.9  # and of its page
DOTS_PER_INCH: Final = 72  # of a specification's pixels on paper


def config(text: str, rule: str, size: int) -> dict[str, Any]:
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
            "labelFontSize": size,
            "labelLimit": 300,
        },
        "title": {"color": text, "fontSize": size, "fontWeight": "normal", "anchor": "start"},
        "text": {"color": text},
        "header": {"labelColor": text, "titleColor": text},
    }


PAPER: Final = config("#222222", "#888888", 9) | {"background": "white"}
# An SVG in a page takes the page's own colour: light, dark and print alike.
PAGE: Final = config("currentColor", "#888888", 11)
