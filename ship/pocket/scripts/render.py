"""Icons to pixels: Iconify's SVG bodies, rasterised by resvg on a white ground."""

import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from PIL import Image

SIZE: Final = 128
"""Pixels a side; also the resolution of the image tower."""

INK: Final = "#222222"
"""Colour of icons that take the text's colour (the monotone and high-contrast sets)."""


def svg_document(data: Mapping[str, Any], name: str, size: int = SIZE) -> str:
    """A whole SVG of one icon of an icons.json, aliases and their flips and turns resolved."""
    aliases = data.get("aliases", {})
    changes: dict[str, Any] = {}
    while name not in data["icons"]:
        alias = aliases[name]
        changes = {**alias, **changes}
        name = alias["parent"]
    icon = {**data["icons"][name], **changes}
    width = icon.get("width", data.get("width", 16))
    height = icon.get("height", data.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    body = icon["body"].replace("currentColor", INK)
    if icon.get("hFlip"):
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    if icon.get("vFlip"):
        body = f'<g transform="translate(0 {2 * top + height}) scale(1 -1)">{body}</g>'
    if turns := icon.get("rotate"):
        centre = f"{left + width / 2} {top + height / 2}"
        body = f'<g transform="rotate({90 * turns} {centre})">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{size}" height="{size}">{body}</svg>'
    )


def rasterise(svg: str, size: int = SIZE) -> Image.Image:
    """RGB picture of size x size, the drawing centred on white.

    Raises:
        ValueError: nothing was drawn.
    """
    import resvg_py  # only a rebuild needs it: the "pocket" extra

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size))
    drawing = Image.open(io.BytesIO(png)).convert("RGBA")
    if drawing.getchannel("A").getbbox() is None:
        raise ValueError("the SVG draws nothing")
    if max(drawing.size) > size:
        drawing.thumbnail((size, size), Image.Resampling.LANCZOS)
    picture = Image.new("RGB", (size, size), "white")
    corner = ((size - drawing.width) // 2, (size - drawing.height) // 2)
    picture.paste(drawing, corner, mask=drawing.getchannel("A"))
    return picture


def encode_webp(picture: Image.Image, effort: int = 4) -> bytes:
    """Lossless WebP: smaller than PNG for drawings, and exact (lossy moved 15% of predictions)."""
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, method=effort)
    return buffer.getvalue()


def decode(image: bytes) -> Image.Image:
    """RGB picture of encoded bytes."""
    return Image.open(io.BytesIO(image)).convert("RGB")


def render_svg(svg: str) -> bytes:
    """WebP bytes of one SVG."""
    return encode_webp(rasterise(svg))


def render_all(svgs: Iterable[str], workers: int) -> list[bytes]:
    """WebP bytes of many SVGs, in order."""
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(render_svg, svgs, chunksize=64))
