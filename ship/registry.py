"""Registries of generators, fine-tuners, datasets and metrics, by their names in a YAML.

A registry contains the built-ins and the loaded plugins of one kind. It rejects duplicate names and
records the origin of each plugin. ship.configs and ship.datasets create the registries;
ship.plugins adds plugins to them. This module does not import torch.
"""

import json
import re
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, ValuesView
from contextlib import contextmanager
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
    """A plugin cannot be used.

    The message is one line with the plugin's origin, its name if known, and the fault.
    """


class DatasetPlugin(NamedTuple):
    """A dataset plugin.

    Generators and fine-tuners have no such class: their settings class is the plugin.

    Attributes:
        name: Name of the dataset in a YAML.
        spec: A ship.datasets.DatasetSpec: an object with an attribute `template` and a method
            `scan`.

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

    Its values appear in reports. It cannot be the objective of a study.

    Attributes:
        name: Name of the metric in a YAML (`metrics`).
        compute: Function that returns a finite number, given three numpy arrays for n test images:
            logits (n, n_cls) in float64, labels (n,), and seen (n_cls,), the mask of the classes
            that have training images.

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
        identity: Version of the code, for configuration keys and run tags: "ship-example 0.1", or
            "sha256:" and a digest of 64 hex digits.
        content: Content of a file. None for a module, which every node must be able to import.
        module: Name of the module, "" for a file.
    """

    label: str
    identity: str
    content: bytes | None = None
    module: str = ""


class Registry(UserDict[str, Entry]):
    """Settings classes, dataset specs or metric functions, by their names in a YAML.

    Built-ins precede plugins. Each process has its own registries. Register plugins with `add`:
    item assignment would skip its checks.

    Attributes:
        entry_noun: Noun for an entry in messages, e.g. "generator".
        plugin_class: GeneratorSettings or FinetunerSettings, whose subclasses are the plugins, or
            DatasetPlugin or MetricPlugin, whose instances are the plugins.
        origins: Origin of each loaded plugin, by name.
    """

    def __init__(self, entry_noun: str, plugin_class: type[Any], candidates: Iterable[Any]) -> None:
        """Create a registry of built-ins.

        Args:
            entry_noun: Noun for an entry in messages, e.g. "generator".
            plugin_class: Class of the registry's plugins (see the attribute).
            candidates: Objects to register as built-ins, e.g. all objects of a module. Objects that
                the registry does not accept are skipped.
        """
        self.entry_noun, self.plugin_class = entry_noun, plugin_class
        plugins = [candidate for candidate in candidates if self.accepts(candidate)]
        super().__init__({get_plugin_name(plugin): _get_entry(plugin) for plugin in plugins})
        self._builtin = frozenset(self)
        self.origins: dict[str, Origin] = {}

    def values(self) -> ValuesView[Entry]:
        """Return the entries. UserDict's view is slow, and each validation of a config needs it."""
        return self.data.values()

    def accepts(self, candidate: Any) -> bool:
        """Return True if an object is a plugin of this registry's class, valid or not.

        A settings class with neither a name nor a method is a base class, not a plugin.
        """
        if isinstance(candidate, DatasetPlugin | MetricPlugin):
            return type(candidate) is self.plugin_class
        if not isinstance(candidate, type) or not issubclass(candidate, NamedSettings):
            return False
        is_base = not get_plugin_name(candidate) and candidate.method is None
        return issubclass(candidate, self.plugin_class) and not is_base

    def require_valid(self, plugin: Plugin, origin: Origin) -> None:
        """Raise an error if a plugin cannot be registered.

        Args:
            plugin: The plugin to check.
            origin: Origin of the plugin.

        Raises:
            PluginError: The plugin's name is invalid, or is that of a built-in or of a plugin from
                another file or module. Or a dataset's spec lacks an attribute, a metric's `compute`
                is not a function, or the `method` of a settings class is invalid.
        """
        name = get_plugin_name(plugin)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(
                f"{origin.label}: invalid {self.entry_noun} name {name!r}. Use letters, digits and "
                "underscores, starting with a letter. A settings class sets its name as the "
                "default of its field `name`"
            )
        subject = f"{origin.label}: {self.entry_noun} {name}"
        if isinstance(plugin, DatasetPlugin):
            for attribute in ("template", "scan"):
                if not hasattr(plugin.spec, attribute):
                    raise PluginError(
                        f"{subject} has no attribute {attribute}. Its spec needs `template` and "
                        "`scan`"
                    )
        elif isinstance(plugin, MetricPlugin):
            if not callable(plugin.compute):
                raise PluginError(
                    f"{subject}: `compute` must be a function, got {plugin.compute!r}"
                )
        elif not isinstance(plugin.method, type) and ":" not in str(plugin.method):
            raise PluginError(
                f"{subject}: invalid `method`, got {plugin.method!r}. Use a subclass of "
                "ship.methods.Generator or Finetuner, or its location as 'module:class'"
            )
        if name in self._builtin:
            raise PluginError(f"{subject} has the name of a built-in {self.entry_noun}. Rename it")
        registered_label = self.origins.get(name, origin).label
        if registered_label != origin.label:
            raise PluginError(
                f"{subject} is already defined by {registered_label}. Load only one of the two"
            )

    def add(self, plugin: Any, origin: Origin) -> None:
        """Register a plugin.

        An entry of the same name is replaced if its origin has the same label, because the file may
        have been edited. The same file under another path has another label.

        Args:
            plugin: The plugin to register.
            origin: Origin of the plugin.

        Raises:
            PluginError: The plugin cannot be registered (see require_valid).
        """
        self.require_valid(plugin, origin)
        name = get_plugin_name(plugin)
        self[name] = _get_entry(plugin)
        self.origins[name] = origin


PROPAGATED_EXCEPTIONS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""Exceptions that stop the interpreter or a Python generator.

Code that runs plugins lets them propagate, and reports all other exceptions as faults of the
plugin. Only wrap_import_errors reports SystemExit and GeneratorExit, too.
"""


class RegistryUnion:
    """Annotation of a field whose value is an instance of one of a registry's settings classes.

    Validates like pydantic's union of these classes, discriminated by `name`: errors and their
    locations are the same. Unlike such a union, it includes plugins that are registered after the
    field is defined. Write `Annotated[NamedSettings, RegistryUnion(registry)]`.
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
        union = _get_union_adapter(tuple(self.registry.values()))
        # A value from JSON is validated as JSON, whose strict mode accepts a list for a tuple. The
        # default of the field is a settings object even then, and JSON validation would reject it.
        if info.mode == "json" and not isinstance(value, BaseModel):
            return union.validate_json(json.dumps(value))
        return union.validate_python(value)


@cache
def _get_union_adapter(settings_classes: tuple[type[Any], ...]) -> Any:
    """Return pydantic's adapter for a union of settings classes, discriminated by `name`."""
    union: Any = Annotated[reduce(or_, settings_classes), Field(discriminator="name")]
    return TypeAdapter(union)


@contextmanager
def wrap_import_errors(subject: str) -> Iterator[None]:
    """Turn exceptions of the `with` block, which imports a plugin's code, into a PluginError.

    Args:
        subject: Beginning of the message: the plugin's origin, and its name if known.

    Raises:
        KeyboardInterrupt: The user interrupted the block.
        PluginError: The block raised any other exception. The message is one line.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except PydanticUserError as error:
        raise PluginError(f"{subject}{_describe_settings_fault(error)}") from error
    except BaseException as error:
        raise PluginError(f"{subject} cannot be imported: {format_error(error)}") from error


def _describe_settings_fault(error: PydanticUserError) -> str:
    """Return the end of the message about a settings class that pydantic rejects.

    If an attribute lacks a type annotation, the text names it. Otherwise it is pydantic's error.

    Args:
        error: Error that pydantic raised when the class was defined.
    """
    attribute = re.search(r"`(\w+) = ", error.message)
    if error.code != "model-field-missing-annotation" or not attribute:
        return f" cannot be imported: {format_error(error)}"
    name = attribute[1]
    hint = " (did you mean method?)" if get_close_matches(name, ["method"]) else ""
    advice = f"Write `{name}: TYPE = VALUE` if it is a key of the YAML"
    return f": attribute {name} of a settings class has no type annotation{hint}. {advice}"


def format_error(error: BaseException) -> str:
    """Return the type of an exception and the first line of its text, up to 300 characters.

    If the text is empty or cannot be read, only the type is returned.
    """
    try:
        first_line = (str(error).strip().splitlines() or [""])[0][:300]
    except PROPAGATED_EXCEPTIONS:
        raise
    except BaseException:  # str() of a plugin's exception may itself raise
        first_line = ""
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__


def get_plugin_name(plugin: Plugin) -> str:
    """Return the name of a plugin in a YAML.

    The name of a settings class is the default of its field `name`, or "" without a default.
    """
    if isinstance(plugin, DatasetPlugin | MetricPlugin):
        return plugin.name
    name = plugin.model_fields["name"].default
    return name if isinstance(name, str) else ""


def _get_entry(plugin: Plugin) -> Any:
    """Return the settings class, dataset spec or metric function that a plugin registers."""
    if isinstance(plugin, MetricPlugin):
        return plugin.compute
    return plugin.spec if isinstance(plugin, DatasetPlugin) else plugin
