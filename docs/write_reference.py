"""Writes yaml-reference.md from the classes that check a study's YAML, and cli-reference.md.

The command is python -m docs.write_reference. tests/test_docs.py fails if the files are out of
date.
"""

import re
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs.cli_reference import CLI_PAGE, cli_reference
from docs.markdown import bullets, wrapped
from harness.config import (
    BACKBONE,
    SAMPLERS,
    SCHEDULERS,
    SELECTIONS,
    STUDY_KEYS,
    Factor,
    Log,
    Resources,
    StudyConfig,
    load_defaults,
)
from harness.wording import show
from ship.configs import FINETUNERS, GENERATORS
from ship.datasets import DATASETS, PREFIX, ImageFolder
from ship.protocol_rules import PROTOCOLS
from ship.trial_config import OBJECTIVES, SyntheticConfig, TrialConfig

PAGE = Path(__file__).with_name("yaml-reference.md")
HEAD = """# Every key of the YAML

Each key that a study's YAML may have: its default, limits and meaning.
[An example](howto/write-study.md); `ship-sweep options` prints the same.

- `shots: 16` stands for the key `shots`, whose default is 16. Keys with the default `null` accept
  `null`.
- A value has the type of its default: text (in quotes here), integer (`1`) or number (`1.0`; `1` is
  accepted, too). Integers are at least 1 and numbers at least 0, unless brackets say otherwise.
- A key below another is written with a dot on the command line and in `space`: `generator.n_ctx`.
- Backbone `pocket` has [other defaults](#defaults-of-backbone-pocket).
"""
DEFAULTS_HEAD = """Other defaults on this page are those of the methods' authors, except for what
[differs](differences.md). `--dry-run` lists what a study has
from these; `ship/pocket/defaults.yaml` says how each was chosen. If `backbone` is a factor, none
apply."""
SENTENCE = "a photo of a {}."  # of most datasets
DATASET = load_defaults()[""]["dataset"]
# Defaults that depend on other keys.
DEPENDS = {
    "name": "the file's name without .yaml",
    "sampler": "`grid`; `tpe` where a factor is a range without `step` or `levels`",
    "dataset": f"`{DATASET}` with backbone `{BACKBONE}`, none with others",
}
NAMED = {
    "generator": "a [generator](#generators), or its settings",
    "finetuner": "a [fine-tuner](#fine-tuners), or its settings",
    "scheduler": "a [scheduler](#schedulers), or its settings",
    "space": "dotted key → [factor](#a-factor-of-space)",
    "variants": "`generator`, `finetuner` or `dataset` → name → settings",
    "objective": "an [objective](#objectives)",
    "protocol": "a [protocol](#protocols)",
    "selection": "a [selection](#selections)",
    "seeds": "a count, or a list of integers",
    "when": "dotted key → values",
    "choices": "at least one value",
}
# Sections of the YAML whose keys have a heading of the section's name.
SETTINGS = (SyntheticConfig, Resources, Log)
# Bounds that the page's head names once.
USUAL = {"integer": "≥ 1", "number": "≥ 0"}
_SIGNS: tuple[tuple[type[Any], str, str], ...] = (
    (Ge, "ge", "≥"),
    (Gt, "gt", ">"),
    (Le, "le", "≤"),
    (Lt, "lt", "<"),
)


def reference() -> str:
    """Return the whole page as Markdown."""
    study = {key: StudyConfig.model_fields[key] for key in STUDY_KEYS}
    parts = [
        HEAD,
        "## Keys of a study\n",
        _keys(study),
        "## Keys of a trial\n\nThey are top-level keys of the YAML, too.\n",
        _keys(TrialConfig.model_fields),
        f"## Defaults of backbone {BACKBONE}\n\n{DEFAULTS_HEAD}\n",
        _backbone_defaults(),
        f"## A factor of space\n\n{_first_line(Factor)}\n",
        _keys(Factor.model_fields),
        "## Resources\n",
        _keys(Resources.model_fields),
        "## Log\n",
        _keys(Log.model_fields),
        "## Synthetic\n",
        _keys(SyntheticConfig.model_fields),
        *_methods("Generators", "Keys that several generators share", GENERATORS),
        *_methods("Fine-tuners", "Keys that several fine-tuners share", FINETUNERS),
        *_methods("Schedulers", "", SCHEDULERS),
        *_names("Samplers", SAMPLERS),
        *_names("Selections", SELECTIONS),
        *_names("Protocols", {name: rules.summary for name, rules in PROTOCOLS.items()}),
        *_names(
            "Objectives",
            {name: ", ".join(f"`{o}`" for o in found) for name, found in OBJECTIVES.items()},
            "The protocol's first one is the default.",
        ),
        *_names(
            "Datasets",
            _datasets(),
            "Each with its number of classes, its folder below `--data-root`, and its prompt where "
            f"that is not `{SENTENCE}`",
        ),
    ]
    return "\n".join(parts)


def _backbone_defaults() -> str:
    """List the defaults of the packaged backbone, a line for each group or method."""
    lines = {
        path: ", ".join(f"`{key}={show(value)}`" for key, value in defaults.items())
        for path, defaults in load_defaults().items()
    }
    alike: dict[str, list[str]] = {}
    for path, line in lines.items():
        alike.setdefault(line, []).append(f"`{path}`" if path else "a trial")
    return bullets(f"{', '.join(paths)}: {line}" for line, paths in alike.items())


def _datasets() -> dict[str, str]:
    lines = {}
    for name, spec in DATASETS.items():
        folder = getattr(spec, "folder", None)
        description: str = getattr(spec, "description", "") or _first_line(type(spec))
        where = f"{getattr(spec, 'n_classes', '')}, `{folder}`"
        where += f"; `{spec.template}`" if spec.template != SENTENCE else ""
        lines[name] = description if folder is None else where
    return {**lines, f"{PREFIX}NAME": _first_line(ImageFolder)}


def _methods(title: str, heading: str, configs: Mapping[str, type[Any]]) -> Iterator[str]:
    """Each method with the keys that it alone has; those of several stand once, before them.

    Where a shared key means one thing to some and another to others, it is said to whom.
    It stands there with the default that most have; a method names its own where that differs.
    """
    yield f"## {title}\n"
    of: dict[tuple[str, str, str | None], dict[str, FieldInfo]] = {}
    for name, config in configs.items():
        for key, field in _own(config).items():
            of.setdefault((key, _values(key, field), field.description), {})[name] = field
    shared = {same: fields for same, fields in of.items() if len(fields) > 1}
    usual = {same: _of_most(fields.values()) for same, fields in shared.items()}
    if shared:
        yield f"### {heading}\n\nEach names those that it has, and defaults of its own.\n"
        n_meanings = Counter(key for key, *_ in shared)
        yield bullets(
            _line(same[0], usual[same], ", ".join(fields) if n_meanings[same[0]] > 1 else "")
            for same, fields in shared.items()
        )
    for name, config in configs.items():
        own = _own(config)
        sames = {key: (key, _values(key, f), f.description) for key, f in own.items()}
        told = {key: usual[same] for key, same in sames.items() if same in usual}
        yield f"### {name}\n\n{_first_line(config)}\n"
        if told:
            link = re.sub(r"[^a-z-]", "", heading.lower().replace(" ", "-"))
            others = [key for key in told if _default(own[key]) != _default(told[key])]
            listed = (_with_default(k, own[k]) if k in others else f"`{k}`" for k in told)
            named = ", ".join(listed) if others or len(told) < len(usual) else "all"
            yield wrapped(f"[Shared](#{link}): {named}.") + "\n"
        if len(told) < len(own):
            yield _keys({key: field for key, field in own.items() if key not in told})


def _of_most(fields: Iterable[FieldInfo]) -> FieldInfo:
    """Return the first of those whose default is the most frequent one."""
    known = {repr(_default(field)): field for field in reversed(list(fields))}
    counts = Counter(repr(_default(field)) for field in fields)
    return known[counts.most_common(1)[0][0]]


def _own(config: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys below a method's name."""
    return {key: field for key, field in config.model_fields.items() if key != "name"}


def _names(title: str, lines: Mapping[Any, str], head: str = "") -> Iterator[str]:
    yield f"## {title}\n"
    if head:
        yield f"{head}\n"
    alike: dict[str, list[str]] = {}
    for name, line in lines.items():
        alike.setdefault(line, []).append(f"`{name}`")
    yield bullets(f"{', '.join(names)}: {line}" for line, names in alike.items())


def _keys(fields: Mapping[str, FieldInfo]) -> str:
    return bullets(_line(key, field) for key, field in fields.items())


def _line(key: str, field: FieldInfo, whose: str = "") -> str:
    """One key: its default, what it may be, whose it is, and what it means.

    Raises:
        ValueError: the field says nothing about its meaning.
    """
    if not field.description:
        raise ValueError(f"{key} has no description")
    default, values = _default(field), _values(key, field)
    if key in DEPENDS:
        head, inner = f"`{key}`", f"{values}; default: {DEPENDS[key]}"
    elif field.is_required():
        head, inner = f"`{key}`", f"required: {values}"
    elif isinstance(default, BaseModel) and not hasattr(default, "name"):
        head, inner = f"`{key}`", values
    else:
        head, inner = _with_default(key, field), _beside(key, field)
    inner = "; ".join(filter(None, (inner, whose and f"of {whose}")))
    return f"{head} ({inner}): {field.description}" if inner else f"{head}: {field.description}"


def _with_default(key: str, field: FieldInfo) -> str:
    default = _default(field)
    return f"`{key}: {show(getattr(default, 'name', default))}`"


def _beside(key: str, field: FieldInfo) -> str:
    """Return the values that a key may have, without what its default says."""
    default, values = _default(field), _values(key, field)
    if default is None:
        return values.removesuffix(", or `null`")
    words = {bool: "`true`/`false`", int: "integer", float: "number", str: "text"}
    return values.removeprefix(words.get(type(default), "\0")).lstrip(" ,")


def _values(key: str, field: FieldInfo) -> str:
    """Return the values that a key may have."""
    if field.annotation in SETTINGS:  # by type: a factor's `log` is not the section `log`
        return f"[settings](#{key})"
    kind = NAMED.get(key) or _type(field.annotation, field.description or "")
    null = ", or `null`" if kind.endswith(" or `null`") else ""
    limits = _limits([*field.metadata, *_inner_metadata(field.annotation)])
    if usual := USUAL.get(kind.removesuffix(" or `null`")):
        limits = "" if limits == usual else limits or "of any size"
    return " ".join(filter(None, (kind.removesuffix(" or `null`"), limits))) + null


def _inner_metadata(annotation: Any) -> Iterator[Any]:
    """Return the metadata within a union, such as Annotated[int, ...] | None."""
    for part in get_args(annotation):
        yield from getattr(part, "__metadata__", ())


def _limits(metadata: list[Any]) -> str:
    """Return the bounds of a value in words, without those of 2^53, beyond which integers blur."""
    found: dict[str, object] = {}
    for mark in metadata:
        for one in list(getattr(mark, "metadata", [])) or [mark]:
            bounds = {sign: getattr(one, at) for kind, at, sign in _SIGNS if isinstance(one, kind)}
            found |= {sign: bound for sign, bound in bounds.items() if abs(bound) < 2**53}
    if {"≥", "≤"} <= set(found):
        return f"{found['≥']} to {found['≤']}"
    return ", ".join(f"{sign} {bound}" for sign, bound in found.items())


def _default(field: FieldInfo) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _type(annotation: Any, meaning: str = "") -> str:
    """Return a type in the words of YAML; nothing of choices that the meaning has one by one."""
    words = {
        int: "integer",
        float: "number",
        str: "text",
        bool: "`true`/`false`",
        Any: "any value",
    }
    if annotation is types.NoneType:
        return "`null`"
    if get_origin(annotation) is Literal:
        if all(re.search(rf"\b{value}[:,] ", meaning) for value in get_args(annotation)):
            return ""
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        parts = dict.fromkeys(_type(part) for part in get_args(annotation))
        return " or ".join(part for part in parts if part != "integer" or "number" not in parts)
    if get_origin(annotation) is tuple:
        item = _type(get_args(annotation)[0])
        # a single text is accepted in place of a list of one
        return "text, or a list of texts" if item == "text" else f"list of {item}"
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    return words.get(annotation, str(annotation))


def _first_line(documented: Any) -> str:
    return (documented.__doc__ or "").strip().splitlines()[0]


def main() -> None:
    """Write the generated pages."""
    PAGE.write_text(reference(), encoding="utf-8")
    CLI_PAGE.write_text(cli_reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
