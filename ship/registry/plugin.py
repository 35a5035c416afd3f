"""What is registered under a name: settings and what builds it, together in one small object.

A built-in generator is described by the same object as one from somebody else's package.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ship.settings import NamedSettings


class PluginError(ValueError):
    """A plugin cannot be used: one line that names it, the fault and where it comes from."""


@dataclass(frozen=True)
class Deferred:
    """A function or a class that is imported when it is first called.

    Settings are checked and a plan is made without torch; what builds needs it.

    where: "module:attribute".
    """

    where: str

    def __call__(self, *arguments: Any) -> Any:
        """Call what stands there."""
        return self.load()(*arguments)

    def load(self) -> Any:
        """What stands there."""
        module, _, attribute = self.where.partition(":")
        return getattr(importlib.import_module(module), attribute)


class GeneratorPlugin(NamedTuple):
    """A generator of synthetic features.

    config: its settings, whose `name` has the default that a YAML says.
    build: takes the settings (one for all replicas, or one for each), a task, the backbone and the
        seeds, and gives a ship.generators.Generator. None: no synthetic features at all.
    """

    config: type[NamedSettings]
    build: Callable[..., Any] | None

    @property
    def name(self) -> str:
        """What a YAML says."""
        return name_of(self.config)


class FinetunerPlugin(NamedTuple):
    """A fine-tuner.

    config: its settings, whose `name` has the default that a YAML says.
    build: takes the settings (one for all replicas, or one for each), a task, a
        ship.synthesis.Synthesizer or None, the backbone and the seeds, and gives a
        ship.finetuners.Finetuner.
    """

    config: type[NamedSettings]
    build: Callable[..., Any]

    @property
    def name(self) -> str:
        """What a YAML says."""
        return name_of(self.config)


class DatasetPlugin(NamedTuple):
    """A dataset.

    name: what a YAML says.
    spec: a ship.datasets.DatasetSpec: it has a template, and surveys what lies on disk.
    """

    name: str
    spec: Any


Plugin = GeneratorPlugin | FinetunerPlugin | DatasetPlugin


@dataclass(frozen=True)
class Origin:
    """Where a plugin comes from.

    said: in messages: "package ship-example" or "file my_method.py".
    identity: what the code is, in keys and tags: "ship-example 0.1" or "sha256:" and 64 digits.
    content: of a file; None for a package, which is to be installed wherever it is needed.
    """

    said: str
    identity: str
    content: bytes | None = None


def name_of(config: Any) -> str:
    """The name that settings are of, "" where they have none."""
    if not (isinstance(config, type) and issubclass(config, NamedSettings)):
        return ""
    name = config.model_fields["name"].default
    return name if isinstance(name, str) else ""
