"""The base of every configuration class."""

import importlib
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

# Where the class name stands: behind the context, in its middle, or before it (CoOp, sec. 3.2).
NamePosition = Literal["end", "middle", "front"]


class Settings(BaseModel):
    """A frozen group of settings; a field's dotted path is its name everywhere a user meets it.

    What a field means is said by `description`, or by the string below it, in one line or more.

    Raises:
        pydantic.ValidationError: with every fault at once (unknown key, wrong type, out of bounds).
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        for field in cls.model_fields.values():
            field.description = " ".join((field.description or "").split()) or None


class NamedSettings(Settings):
    """Settings of a generator or a fine-tuner; a YAML tells it by its name.

    Each gives `name` the type Literal["NAME"], and that name as its default.

    method: what is set by them: a class of ship.methods, or where one stands, "module:class". That
        is imported when a trial begins: to check settings and to make a plan takes no torch.
    """

    method: ClassVar[Any] = None
    name: str

    @classmethod
    def load_method(cls) -> Any:
        """The class that is set by them."""
        if not isinstance(cls.method, str):
            return cls.method
        module, _, attribute = cls.method.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def unread_reason(self, key: str) -> str | None:
        """Why a trial with these settings does not read one of its settings; None: it may read it.

        A study in which no setting reads a factor is refused with the reason.

        Args:
            key: dotted name of any setting of the trial, such as "generator.lr" or "views".
        """
        return None


class GeneratorSettings(NamedSettings):
    """Settings of a generator; without a method it makes no synthetic features at all."""


class FinetunerSettings(NamedSettings):
    """Settings of a fine-tuner."""
