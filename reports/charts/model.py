"""What a chart is before it is drawn."""

from dataclasses import dataclass, field
from typing import Any

from reports.read import Study
from reports.tables import chosen_by, on_test


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


def chart(
    study: Study, name: str, title: str, caption: str, spec: dict[str, Any], *beside: str
) -> Chart:
    """A chart with, above it, what it must not be read without, in lines that a column holds.

    Args:
        study: that it is of.
        name, title, caption: as a Chart's.
        spec: its marks.
        beside: what else to say in its first line.
    """
    scope = [study.scope] if study.pooled else []
    warnings = ["selected on test"] if on_test(chosen_by(study.rows["selection"].to_list())) else []
    warnings += ["demonstration backbone"] if study.demonstration else []
    lines = [" · ".join([study.name, *scope, *beside]), " · ".join(warnings)]
    whole = {"title": [line for line in lines if line], **spec, "description": caption}
    return Chart(name, title, caption, whole)
