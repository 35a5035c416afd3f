"""What `ship-sweep --list-backbones` prints: every backbone, its sizes and its weights."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from ship.architectures import Architecture

NOTES = (
    "backbone: pocket, or BACKBONE:PRETRAINED; a checkpoint's path may stand in place of a tag.",
    "size: of a feature; width: of a token embedding; context: most tokens in a prompt, so that "
    "n_ctx may be at most 3 less (start, end and a class name of one token).",
    "Weights trained with QuickGELU get it under the plain name too (ViT-B-16:openai). A "
    "checkpoint has the activation that its backbone is named for (-quickgelu: QuickGELU), but for "
    "OpenAI's own archives, whose activation is known.",
)


def print_backbones(every: bool = False) -> None:
    """Print a table of the backbones that prompts can drive.

    Architectures without published weights are named below the table.

    Args:
        every: whether the table also has the architectures without published weights, and those
            that are refused, each with the reason.
    """
    from ship.architectures import architectures

    console = Console(highlight=False)
    rows = architectures()
    offered = [row for row in rows if row.refused is None]
    bare = [row.name for row in offered if _has_no_weights(row)]
    console.print(_table(rows if every else [row for row in offered if not _has_no_weights(row)]))
    console.print()
    if not every:
        console.print(escape(f"For checkpoints of your own alone: {', '.join(bare)}."))
        console.print(
            f"Refused, because prompts cannot drive them: {len(rows) - len(offered)} architectures "
            "(bidirectional towers, CoCa's, Hugging Face's)."
        )
    for note in NOTES:
        console.print(escape(note))


def _has_no_weights(row: "Architecture") -> bool:
    """Whether no weights are published or packaged, so that it needs a checkpoint."""
    return not row.tags and row.name != "pocket"


def _table(rows: Iterable["Architecture"]) -> Table:
    # Narrow enough for the longest tag on a line of 80 characters: a tag that is broken over two
    # lines cannot be copied.
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("backbone", no_wrap=True)
    for heading in ("size", "width", "context"):
        table.add_column(heading, justify="right")
    table.add_column("pretrained", overflow="fold")
    for row in rows:
        sizes = map(str, (row.feature_dim, row.text_width, row.context_length))
        table.add_row(row.name, *sizes, _weights_cell(row), style="dim" if row.refused else None)
    return table


def _weights_cell(row: "Architecture") -> str:
    """The last cell of a row: the weights to choose from, or why there is no choice."""
    if row.refused is not None:
        return escape(f"refused: {row.refused}")
    if _has_no_weights(row):
        return "a checkpoint's path alone"
    return escape(", ".join(row.tags)) or "packaged"
