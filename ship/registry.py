"""Registries of the names that a YAML may contain: built-ins and plugins. Imports no torch.

A registry looks up names, rejects duplicates and records the origin of each plugin. ship.configs
and ship.datasets create the registries; ship.plugins adds plugins to them.
"""

import json
import re
from collections import UserDict
from collections.abc import Callable, Iterable, ValuesView
from difflib import get_close_matches
from functools import cache, reduce
from operator import or_
from typing import Annotated, Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, Field, GetCoreSchemaHandler, PydanticUserError, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ship.settings import NamedSettings

Entry = TypeVar("Entry")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class PluginError(ValueError):
    """A plugin cannot be used. The message is one line with its origin, its name and the fault."""


class DatasetPlugin(NamedTuple):
    """A dataset plugin.

    Generators and fine-tuners have no such class: their settings class is the plugin.

    Attributes:
        name: Name of the dataset in a YAML.
        spec: A ship.datasets.DatasetSpec: an object with a `template` and a method `scan`.

    Example:
        >>> from ship.datasets import DatasetScan
        >>> class Shapes:
        ...     template = "a drawing of a {} square."
        ...     def scan(self, name, data_root):
        ...         return DatasetScan(class_names=("red", "blue"))
        >>> shapes = DatasetPlugin("shapes", Shapes())
    """

    name: str
    spec: Any


class MetricPlugin(NamedTuple):
    """A metric plugin: a function of one seed's test predictions.

    Its value appears in reports; it cannot be the objective.

    Attributes:
        name: Name of the metric in a YAML (`metrics`).
        compute: Function of three numpy arrays for n test images: logits (n, n_cls) in float64,
            labels (n,), and the mask of classes with training images, seen (n_cls,). It returns a
            finite number.

    Example:
        >>> def margin(logits, labels, seen):
        ...     top = logits[:, seen].max(1) - logits[:, ~seen].max(1)
        ...     return float(top.mean())
        >>> seen_margin = MetricPlugin("seen_margin", margin)
    """

    name: str
    compute: Callable[..., float]


Plugin = type[NamedSettings] | DatasetPlugin | MetricPlugin


class Origin(NamedTuple):
    """Origin of a plugin: a file or a module.

    Attributes:
        label: Text for messages: "module ship_example" or "file my_method.py". The file may be on
            another machine.
        identity: Identifies the version of the code, in configuration keys and run tags:
            "ship-example 0.1", or "sha256:" and a digest of 64 hex digits.
        content: Content of a file. None for a module: every node must be able to import it.
        module: Name of the module, "" for a file.
    """

    label: str
    identity: str
    content: bytes | None = None
    module: str = ""


class Registry(UserDict[str, Entry]):
    """Name in a YAML -> registered entry, built-ins first.

    Each process has its own registries. Entries can be added and replaced, but not removed.

    Attributes:
        noun: Kind of the entries in messages, e.g. "generator".
        kind: Class of the plugins that the registry accepts.
        origins: Origin of each loaded plugin, by name.
    """

    def __init__(self, noun: str, kind: type[Any], builtin: Iterable[Any]) -> None:
        """Create a registry of built-ins.

        Args:
            noun: Kind of the entries in messages, e.g. "generator".
            kind: Class of the plugins: a base class of settings, DatasetPlugin or MetricPlugin.
            builtin: Built-ins, e.g. all objects of a module. Those that the registry does not
                accept are skipped.
        """
        self.noun, self.kind = noun, kind
        plugins = [candidate for candidate in builtin if self.accepts(candidate)]
        super().__init__({get_plugin_name(plugin): _get_entry(plugin) for plugin in plugins})
        self._builtin = frozenset(self)
        self.origins: dict[str, Origin] = {}

    def values(self) -> ValuesView[Entry]:
        """Return the registered entries, faster than UserDict: every validation needs them."""
        return self.data.values()

    def accepts(self, candidate: Any) -> bool:
        """Return True if an object is a plugin for this registry, valid or not.

        A settings class with neither a name nor a method is a base class, not a plugin.
        """
        if not isinstance(candidate, type) or not issubclass(candidate, NamedSettings):
            return type(candidate) is self.kind
        is_plugin = get_plugin_name(candidate) or candidate.method is not None
        return issubclass(candidate, self.kind) and bool(is_plugin)

    def require_valid(self, plugin: Plugin, origin: Origin) -> None:
        """Raise an error if a plugin cannot be registered.

        Args:
            plugin: The plugin to check.
            origin: Origin of the plugin.

        Raises:
            PluginError: The plugin lacks a required attribute, or its name is invalid or already
                used.
        """
        name = get_plugin_name(plugin)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(
                f"{origin.label}: invalid {self.noun} name {name!r}. Use letters, digits and "
                "underscores, starting with a letter (in a settings class: the default of `name`)"
            )
        subject = f"{origin.label}: {self.noun} {name}"
        if isinstance(plugin, DatasetPlugin):
            for attribute in ("template", "scan"):
                if not hasattr(plugin.spec, attribute):
                    raise PluginError(
                        f"{subject} has no attribute {attribute}. Its spec needs `template` and "
                        "`scan`"
                    )
        elif isinstance(plugin, MetricPlugin):
            if not callable(plugin.compute):
                raise PluginError(f"{subject}: must be a function, got {plugin.compute!r}")
        elif not isinstance(plugin.method, type) and ":" not in str(plugin.method):
            raise PluginError(
                f"{subject}: invalid `method`, got {plugin.method!r}. Use a subclass of "
                "ship.methods.Generator or Finetuner, or its location as 'module:class'"
            )
        if name in self._builtin:
            raise PluginError(f"{subject} has the name of a built-in {self.noun}. Rename it")
        owner = self.origins.get(name, origin).label
        if owner != origin.label:
            raise PluginError(f"{subject} is already defined by {owner}. Load only one of the two")

    def add(self, plugin: Any, origin: Origin) -> None:
        """Register a plugin. It replaces an entry of the same name and origin (an edited file).

        Args:
            plugin: The plugin to register.
            origin: Origin of the plugin.

        Raises:
            PluginError: The plugin cannot be registered (see require_valid).
        """
        self.require_valid(plugin, origin)
        self[get_plugin_name(plugin)] = _get_entry(plugin)
        self.origins[get_plugin_name(plugin)] = origin


# Exceptions that stop the interpreter or a Python generator. Anything else that a plugin's code
# raises is reported as an error of the plugin.
EXITS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)


class OneOf:
    """Annotation of a field whose value is an instance of one of a registry's settings classes.

    Behaves like pydantic's union discriminated by `name`, with the same errors and locations.
    Unlike a union, it includes plugins that are registered later. Write
    `Annotated[NamedSettings, OneOf(registry)]`.
    """

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validate)

    def _validate(self, value: Any, info: Any) -> Any:
        name = value.get("name") if isinstance(value, dict) else None
        if isinstance(name, str) and name not in self.registry:
            names = ", ".join(f"'{key}'" for key in self.registry)
            raise PydanticCustomError(
                "union_tag_invalid",
                "Input tag '{tag}' found using 'name' does not match any of the expected tags: "
                "{expected_tags}",
                {"discriminator": "'name'", "tag": name, "expected_tags": names},
            )
        union = _make_union_adapter(tuple(self.registry.values()))
        # JSON mode accepts e.g. a list for a tuple, but not a default, which is already an instance
        if info.mode == "json" and not isinstance(value, BaseModel):
            return union.validate_json(json.dumps(value))
        return union.validate_python(value)


@cache
def _make_union_adapter(settings_classes: tuple[type[Any], ...]) -> Any:
    """Return pydantic's adapter for a union of settings classes, discriminated by `name`."""
    union: Any = Annotated[reduce(or_, settings_classes), Field(discriminator="name")]
    return TypeAdapter(union)


def import_plugin(load: Callable[[], Any], subject: str) -> Any:
    """Call a function that imports a plugin's code, and return its result.

    Args:
        load: The function.
        subject: Beginning of the message if it fails: the plugin's origin.

    Raises:
        KeyboardInterrupt: The user interrupted `load`.
        PluginError: `load` raised any other exception. The message is one line.
    """
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except PydanticUserError as error:
        raise PluginError(f"{subject}{_describe_settings_fault(error)}") from error
    except BaseException as error:
        raise PluginError(f"{subject} cannot be imported: {format_error(error)}") from error


def _describe_settings_fault(error: PydanticUserError) -> str:
    """Return the fault of a settings class, as text that follows the plugin's origin."""
    attribute = re.search(r"`(\w+) = ", error.message)
    if error.code != "model-field-missing-annotation" or not attribute:
        return f" cannot be imported: {format_error(error)}"
    name = attribute[1]
    hint = " (did you mean method?)" if get_close_matches(name, ["method"]) else ""
    advice = f"Write `{name}: TYPE = VALUE` if it is a key of the YAML"
    return f": attribute {name} of a settings class has no type annotation{hint}. {advice}"


def format_error(error: BaseException) -> str:
    """Return the type of an exception and the first line of its text, if it has a text."""
    try:
        first_line = (str(error).strip().splitlines() or [""])[0][:300]
    except EXITS:
        raise
    except BaseException:  # str() of a plugin's exception may itself raise
        first_line = ""
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


def get_plugin_name(plugin: Plugin) -> str:
    """Return the name of a plugin in a YAML, or "" if its settings class has no name."""
    if isinstance(plugin, DatasetPlugin | MetricPlugin):
        return plugin.name
    name = plugin.model_fields["name"].default
    return name if isinstance(name, str) else ""


def _get_entry(plugin: Plugin) -> Any:
    """Return the registry's entry for a plugin: settings class, dataset spec or metric function."""
    if isinstance(plugin, MetricPlugin):
        return plugin.compute
    return plugin.spec if isinstance(plugin, DatasetPlugin) else plugin
