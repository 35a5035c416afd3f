"""Generate cli-reference.md from the help texts of the three commands."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from docs.markdown import format_list, wrap_text
from harness.cli.main import app as sweep
from harness.data.cli import app as data
from reports.cli import app as report

CLI_PAGE = Path(__file__).with_name("cli-reference.md")
_HEAD = """# Command line reference

All commands and options, as `--help` prints them. Options of a subcommand come after its name.
"""


def make_cli_reference() -> str:
    """Return the whole page as Markdown."""
    sections = [_HEAD]
    for root in map(get_command, (sweep, report, data)):
        sections += _make_section(f"## {root.name}", root, root.name)
        root_options = _format_options(root)
        for name, command in getattr(root, "commands", {}).items():
            sections += _make_section(f"### {root.name} {name}", command, root.name, root_options)
    return "\n".join(sections)


def _make_section(
    heading: str, command: Any, root: str | None, root_options: Collection[str] = ()
) -> Iterator[str]:
    """Yield the paragraphs and lists about a command.

    Args:
        heading: Heading in Markdown, which ends with the command.
        command: The command.
        root: Name of the main command.
        root_options: Items of the main command's options, which are not repeated.
    """
    options = _format_options(command)
    context = command.context_class(command, info_name=heading.lstrip("# "))
    yield f"{heading}\n"
    yield f"    {context.command_path} {' '.join(command.collect_usage_pieces(context))}\n"
    for paragraph in command.help.split("\n\n"):
        yield wrap_text(" ".join(paragraph.split())) + "\n"
    items = [f"`{param.metavar}`: {param.help}" for param in _get_arguments(command)]
    items += [item for item in options if item not in root_options]
    if items:
        yield format_list(items)
    repeated = [f"`{item.split('`')[1]}`" for item in options if item in root_options]
    if repeated:
        yield wrap_text(f"As in [{root}](#{root}): {', '.join(repeated)}.") + "\n"
    yield from _format_epilog(command.epilog or "")


def _get_arguments(command: Any) -> list[Any]:
    """Return the arguments of a command."""
    return [param for param in command.params if param.param_type_name == "argument"]


def _format_options(command: Any) -> list[str]:
    """Return an item for each option of a command, except --help."""
    items = []
    for param in command.params:
        if param.param_type_name == "option":
            usage = " ".join(filter(None, (param.opts[0], param.metavar)))
            items.append(f"`{usage}`: {param.help}{_format_default(param)}")
    return items


def _format_default(option: Any) -> str:
    """Return a sentence about the default of an option, unless its help has one."""
    if option.default is None or option.is_flag or option.multiple:
        return ""
    return f" Default: `{option.default}`."


def _format_epilog(text: str) -> Iterator[str]:
    """Yield the parts of an epilog, with examples and exit codes as lists.

    An example is a paragraph with `  # ` between the command and its meaning. All examples follow
    the paragraph "Examples:". A paragraph that begins with a digit is an exit code.
    """
    paragraphs = [paragraph for paragraph in text.split("\n\n") if paragraph]
    examples = [paragraph.split("  # ") for paragraph in paragraphs if "  # " in paragraph]
    codes = [paragraph for paragraph in paragraphs if paragraph[0].isdecimal()]
    for paragraph in paragraphs:
        if "  # " not in paragraph and paragraph not in codes:
            yield wrap_text(paragraph) + "\n"
        if paragraph == "Examples:":
            yield format_list(f"`{command}`: {meaning}" for command, meaning in examples)
    if codes:
        yield format_list(re.sub(r"^(\d+)", r"`\1`", code) for code in codes)
