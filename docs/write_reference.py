"""Write yaml-reference.md, from the classes that check a study's YAML, and cli-reference.md.

Run python -m docs.write_reference. tests/test_docs.py fails if the files are out of date.
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

from docs.cli_reference import CLI_PAGE, make_cli_reference
from docs.markdown import format_list, wrap_text
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
SENTENCE = "a photo of a {}."  # template of most datasets
DATASET = load_defaults()[""]["dataset"]
# Descriptions of defaults that depend on other keys.
DEPENDENT_DEFAULTS = {
    "name": "the file's name without .yaml",
    "sampler": "`grid`; `tpe` where a factor is a range without `step` or `levels`",
    "dataset": f"`{DATASET}` with backbone `{BACKBONE}`, none with others",
}
# Descriptions of the values of some keys.
VALUES = {
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
# Bounds that are described once at the top of the page.
DEFAULT_BOUNDS = {"integer": "≥ 1", "number": "≥ 0"}
# Name, values and description of a key.
_Identity = tuple[str, str, str | None]
_SIGNS: tuple[tuple[type[Any], str, str], ...] = (
    (Ge, "ge", "≥"),
    (Gt, "gt", ">"),
    (Le, "le", "≤"),
    (Lt, "lt", "<"),
)


def make_reference() -> str:
    """Return the whole page as Markdown."""
    study = {key: StudyConfig.model_fields[key] for key in STUDY_KEYS}
    sections = [
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
            {
                protocol: ", ".join(f"`{objective}`" for objective in objectives)
                for protocol, objectives in OBJECTIVES.items()
            },
            "The protocol's first one is the default.",
        ),
        *_names(
            "Datasets",
            _datasets(),
            "Each with its number of classes, its folder below `--data-root`, and its prompt where "
            f"that is not `{SENTENCE}`",
        ),
    ]
    return "\n".join(sections)


def _backbone_defaults() -> str:
    """Return a list of the packaged backbone's defaults. Methods with equal ones share a line."""
    lines = {
        path: ", ".join(f"`{key}={show(value)}`" for key, value in defaults.items())
        for path, defaults in load_defaults().items()
    }
    paths_by_line: dict[str, list[str]] = {}
    for path, line in lines.items():
        paths_by_line.setdefault(line, []).append(f"`{path}`" if path else "a trial")
    return format_list(f"{', '.join(paths)}: {line}" for line, paths in paths_by_line.items())


def _datasets() -> dict[str, str]:
    """Return the description of each dataset by name."""
    lines = {}
    for name, spec in DATASETS.items():
        folder = getattr(spec, "folder", None)
        description: str = getattr(spec, "description", "") or _first_line(type(spec))
        details = f"{getattr(spec, 'n_classes', '')}, `{folder}`"
        details += f"; `{spec.template}`" if spec.template != SENTENCE else ""
        lines[name] = description if folder is None else details
    return {**lines, f"{PREFIX}NAME": _first_line(ImageFolder)}


def _methods(title: str, heading: str, configs: Mapping[str, type[Any]]) -> Iterator[str]:
    """Yield the paragraphs about a group of methods.

    Keys with the same values and meaning in several methods are shared: they are described once,
    with the most frequent default. If a key has several meanings, the methods are named. Each
    method has a list of its shared keys, with different defaults, and a list of its other keys.

    Args:
        title: Heading of the group.
        heading: Heading of the shared keys.
        configs: Config class of each method by name.
    """
    yield f"## {title}\n"
    fields_by_identity: dict[_Identity, dict[str, FieldInfo]] = {}
    for name, config in configs.items():
        for key, field in _get_settings(config).items():
            fields_by_identity.setdefault(_identify(key, field), {})[name] = field
    shared = {
        identity: fields for identity, fields in fields_by_identity.items() if len(fields) > 1
    }
    typical = {identity: _most_frequent(fields.values()) for identity, fields in shared.items()}
    if shared:
        yield f"### {heading}\n\nEach names those that it has, and defaults of its own.\n"
        n_meanings = Counter(key for key, *_ in shared)
        yield format_list(
            _line(key, typical[identity], ", ".join(fields) if n_meanings[key] > 1 else "")
            for identity, fields in shared.items()
            for key in identity[:1]
        )
    for name, config in configs.items():
        settings = _get_settings(config)
        shared_settings = {
            key: typical[identity]
            for key, field in settings.items()
            if (identity := _identify(key, field)) in typical
        }
        yield f"### {name}\n\n{_first_line(config)}\n"
        if shared_settings:
            link = re.sub(r"[^a-z-]", "", heading.lower().replace(" ", "-"))
            differing = {
                key
                for key, field in shared_settings.items()
                if _default(settings[key]) != _default(field)
            }
            items = [
                _with_default(key, settings[key]) if key in differing else f"`{key}`"
                for key in shared_settings
            ]
            has_all = not differing and len(shared_settings) == len(typical)
            yield wrap_text(f"[Shared](#{link}): {'all' if has_all else ', '.join(items)}.") + "\n"
        if len(shared_settings) < len(settings):
            yield _keys({key: settings[key] for key in settings if key not in shared_settings})


def _identify(key: str, field: FieldInfo) -> _Identity:
    """Return name, values and description of a key. If they are equal, the key is the same."""
    return key, _values(key, field), field.description


def _most_frequent(fields: Iterable[FieldInfo]) -> FieldInfo:
    """Return the first field with the most frequent default."""
    first_fields = {repr(_default(field)): field for field in reversed(list(fields))}
    counts = Counter(repr(_default(field)) for field in fields)
    return first_fields[counts.most_common(1)[0][0]]


def _get_settings(config: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the keys of a method, without its name."""
    return {key: field for key, field in config.model_fields.items() if key != "name"}


def _names(title: str, lines: Mapping[Any, str], head: str = "") -> Iterator[str]:
    """Yield a section with a list of names. Names with the same description share a line."""
    yield f"## {title}\n"
    if head:
        yield f"{head}\n"
    names_by_line: dict[str, list[str]] = {}
    for name, line in lines.items():
        names_by_line.setdefault(line, []).append(f"`{name}`")
    yield format_list(f"{', '.join(names)}: {line}" for line, names in names_by_line.items())


def _keys(fields: Mapping[str, FieldInfo]) -> str:
    """Return a list of keys."""
    return format_list(_line(key, field) for key, field in fields.items())


def _line(key: str, field: FieldInfo, methods: str = "") -> str:
    """Return a key with its default, values, methods and meaning.

    Args:
        key: Name of the key.
        field: Field of the key.
        methods: Methods for which the description is valid. "" names none.

    Raises:
        ValueError: The field has no description.
    """
    if not field.description:
        raise ValueError(f"{key} has no description")
    default, values = _default(field), _values(key, field)
    if key in DEPENDENT_DEFAULTS:
        head, remark = f"`{key}`", f"{values}; default: {DEPENDENT_DEFAULTS[key]}"
    elif field.is_required():
        head, remark = f"`{key}`", f"required: {values}"
    elif isinstance(default, BaseModel) and not hasattr(default, "name"):
        head, remark = f"`{key}`", values
    else:
        head, remark = _with_default(key, field), _other_values(key, field)
    remark = "; ".join(filter(None, (remark, methods and f"of {methods}")))
    return f"{head} ({remark}): {field.description}" if remark else f"{head}: {field.description}"


def _with_default(key: str, field: FieldInfo) -> str:
    """Return a key with its default, as in YAML."""
    default = _default(field)
    return f"`{key}: {show(getattr(default, 'name', default))}`"


def _other_values(key: str, field: FieldInfo) -> str:
    """Return the values of a key, without the type of its default."""
    default, values = _default(field), _values(key, field)
    if default is None:
        return values.removesuffix(", or `null`")
    words = {bool: "`true`/`false`", int: "integer", float: "number", str: "text"}
    return values.removeprefix(words.get(type(default), "\0")).lstrip(" ,")


def _values(key: str, field: FieldInfo) -> str:
    """Return the values of a key."""
    # by type, because the key `log` of a factor is not the section `log`
    if field.annotation in SETTINGS:
        return f"[settings](#{key})"
    kind = VALUES.get(key) or _type(field.annotation, field.description or "")
    null = ", or `null`" if kind.endswith(" or `null`") else ""
    kind = kind.removesuffix(" or `null`")
    limits = _limits([*field.metadata, *_inner_metadata(field.annotation)])
    if default_limits := DEFAULT_BOUNDS.get(kind):
        limits = "" if limits == default_limits else limits or "of any size"
    return " ".join(filter(None, (kind, limits))) + null


def _inner_metadata(annotation: Any) -> Iterator[Any]:
    """Yield the metadata within a union, such as Annotated[int, ...] | None."""
    for part in get_args(annotation):
        yield from getattr(part, "__metadata__", ())


def _limits(metadata: list[Any]) -> str:
    """Return the bounds of a value in words.

    Bounds of 2^53, the largest exact integer in float64, are omitted.
    """
    bounds: dict[str, object] = {}
    for entry in metadata:
        for constraint in list(getattr(entry, "metadata", [])) or [entry]:
            for kind, attribute, sign in _SIGNS:
                if isinstance(constraint, kind):
                    bound = getattr(constraint, attribute)
                    if abs(bound) < 2**53:
                        bounds[sign] = bound
    if {"≥", "≤"} <= set(bounds):
        return f"{bounds['≥']} to {bounds['≤']}"
    return ", ".join(f"{sign} {bound}" for sign, bound in bounds.items())


def _default(field: FieldInfo) -> Any:
    """Return the default of a field, or None if it is required."""
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _type(annotation: Any, meaning: str = "") -> str:
    """Return a type in words.

    Args:
        annotation: The type.
        meaning: Description of the key. If it explains every choice, "" is returned for choices.
    """
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
        names = dict.fromkeys(_type(part) for part in get_args(annotation))
        return " or ".join(name for name in names if name != "integer" or "number" not in names)
    if get_origin(annotation) is tuple:
        item = _type(get_args(annotation)[0])
        # a single text is accepted in place of a list of one
        return "text, or a list of texts" if item == "text" else f"list of {item}"
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    return words.get(annotation, str(annotation))


def _first_line(documented: Any) -> str:
    """Return the first line of a docstring."""
    return (documented.__doc__ or "").strip().splitlines()[0]


def main() -> None:
    """Write the generated pages."""
    PAGE.write_text(make_reference(), encoding="utf-8")
    CLI_PAGE.write_text(make_cli_reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
