"""What a chart is before it is drawn."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification with its words.

    name: of its files. title: above it. caption: what it shows, for readers who cannot see it, and
    for those who can. spec: without width and colours of the text, which whoever draws it gives.
    """

    name: str
    title: str
    caption: str
    spec: dict[str, Any] = field(repr=False)
