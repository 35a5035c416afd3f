"""Writes yaml-reference.md from the classes that check a study's YAML.

The command is python -m docs.write_reference;
tests/test_docs.py fails while the file differs from what this would write.
"""

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from harness.config import (
    SAMPLERS,
    SCHEDULERS,
    SELECTIONS,
    STUDY_KEYS,
    Factor,
    Record,
    Resources,
    StudyConfig,
)
from harness.wording import show
from ship.configs import FINETUNERS, GENERATORS
from ship.datasets import DATASETS, PREFIX, ImageFolder
from ship.requirements import PROTOCOLS
from ship.trial_config import OBJECTIVES, SyntheticConfig, TrialConfig

PAGE = Path(__file__).with_name("yaml-reference.md")
HEAD = """# Every key of the YAML

This page lists every key that a study's YAML may have. It is written by
`python -m docs.write_reference` from the classes that check the YAML, so do not edit it by hand.
`ship-sweep --list-options` prints the same on a terminal. How to write a study, with an example, is
explained in [Writing and running a study](studies.md).

- A key below `generator`, `finetuner`, `synthetic`, `resources`, `record` or `scheduler` is written
  with a dot on the command line and in `space`, for example `generator.n_ctx`.
- "Required" in the column "Default" marks a key that must be given.
"""
TABLE = (
    "| Key | Type or choices | Default | Limits | Meaning |\n| :--- | :--- | :--- | :--- | :--- |"
)
# Defaults that depend on other keys.
DEPENDS = {
    "name": "the file's stem",
    "sampler": "`grid`; `tpe` where a factor is a range without `step` or `levels`",
    "objective": "the first one of the protocol and the selection",
}
NAMED = {
    "generator": "a name of [generators](#generators), or its settings",
    "finetuner": "a name of [fine-tuners](#fine-tuners), or its settings",
    "synthetic": "[settings](#synthetic)",
    "resources": "`auto`, or [settings](#resources)",
    "record": "[settings](#record)",
    "scheduler": "a name of [schedulers](#schedulers), or its settings",
    "space": "dotted key → [factor](#a-factor-of-space)",
    "variants": "`generator`, `finetuner` or `dataset` → name → settings",
    "objective": "a name of [objectives](#objectives)",
    "protocol": "a name of [protocols](#protocols)",
    "seeds": "a count, or a list of integers",
    "when": "dotted key → list of values",
    "choices": "list of values",
}
_SIGNS: tuple[tuple[type[Any], str, str], ...] = (
    (Ge, "ge", "≥"),
    (Gt, "gt", ">"),
    (Le, "le", "≤"),
    (Lt, "lt", "<"),
)


def reference() -> str:
    """The whole page as Markdown."""
    study = {key: StudyConfig.model_fields[key] for key in STUDY_KEYS}
    parts = [
        HEAD,
        "## Keys of a study\n",
        _table(study),
        "## Keys of a trial\n\nThey stand at the top level of the YAML, too.\n",
        _table(TrialConfig.model_fields),
        f"## A factor of space\n\n{_first_line(Factor)}\n",
        _table(Factor.model_fields),
        "## Resources\n",
        _table(Resources.model_fields),
        f"## Record\n\n{_first_line(Record)}\n",
        _table(Record.model_fields),
        "## Synthetic\n",
        _table(SyntheticConfig.model_fields),
        *_variants("Generators", GENERATORS),
        *_variants("Fine-tuners", FINETUNERS),
        *_variants("Schedulers", SCHEDULERS),
        *_names("Samplers", SAMPLERS),
        *_names("Selections", SELECTIONS),
        *_names("Protocols", {name: rules.line for name, rules in PROTOCOLS.items()}),
        *_names(
            "Objectives",
            {name: ", ".join(f"`{o}`" for o in found) for name, found in OBJECTIVES.items()},
            "What a sampler and a scheduler maximise; the protocol's first one is the default.",
            "Protocol",
        ),
        *_names("Datasets", _datasets(), "The folders lie below `--data-root`."),
    ]
    return "\n".join(parts)


def _datasets() -> dict[str, str]:
    lines = {}
    for name, spec in DATASETS.items():
        folder = getattr(spec, "folder", None)
        about: str = getattr(spec, "about", "") or _first_line(type(spec))
        where = f"{getattr(spec, 'classes', '')} classes in `{folder}`; prompt `{spec.template}`"
        lines[name] = about if folder is None else where
    return {**lines, f"{PREFIX}NAME": _first_line(ImageFolder)}


def _variants(title: str, configs: Mapping[str, type[Any]]) -> Iterator[str]:
    yield f"## {title}\n"
    for name, config in configs.items():
        yield f"### {name}\n\n{_first_line(config)}\n"
        own = {key: field for key, field in config.model_fields.items() if key != "name"}
        yield _table(own) if own else "It has no settings.\n"


def _names(
    title: str, lines: Mapping[Any, str], head: str = "", key: str = "Name"
) -> Iterator[str]:
    yield f"## {title}\n"
    if head:
        yield f"{head}\n"
    rows = [f"| `{name}` | {_cell(line)} |" for name, line in lines.items()]
    yield "\n".join([f"| {key} | Meaning |", "| :--- | :--- |", *rows]) + "\n"


def _table(fields: Mapping[str, FieldInfo]) -> str:
    return "\n".join([TABLE, *(_row(key, field) for key, field in fields.items())]) + "\n"


def _row(key: str, field: FieldInfo) -> str:
    """One key as a row.

    Raises:
        ValueError: the field says nothing about its meaning.
    """
    if not field.description:
        raise ValueError(f"{key} has no description")
    metadata = [*field.metadata, *_inner_metadata(field.annotation)]
    kind = NAMED.get(key) or _type(field.annotation)
    default = DEPENDS.get(key) or _default(field)
    cells = (f"`{key}`", kind, default, _limits(metadata), field.description)
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _inner_metadata(annotation: Any) -> Iterator[Any]:
    """The marks within a union, such as Annotated[int, ...] | None."""
    for part in get_args(annotation):
        yield from getattr(part, "__metadata__", ())


def _limits(metadata: list[Any]) -> str:
    found = []
    for mark in metadata:
        marks = list(getattr(mark, "metadata", [])) or [mark]
        for one in marks:
            found += [
                f"{sign} {getattr(one, at)}" for kind, at, sign in _SIGNS if isinstance(one, kind)
            ]
            found += ["not empty"] if isinstance(one, MinLen) else []
    return ", ".join(dict.fromkeys(found))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "Required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return f"`{value.name}`" if hasattr(value, "name") else "see there"
    return f"`{show(value)}`"


def _type(annotation: Any) -> str:
    """A type in the words of YAML."""
    words = {
        int: "integer",
        float: "number",
        str: "text",
        bool: "`true` or `false`",
        Any: "any value",
    }
    if annotation is types.NoneType:
        return "`null`"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        parts = dict.fromkeys(_type(part) for part in get_args(annotation))
        return " or ".join(part for part in parts if part != "integer" or "number" not in parts)
    if get_origin(annotation) is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    return words.get(annotation, str(annotation))


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write the page beside this script."""
    PAGE.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
