"""Base classes of all settings. Imports no torch."""

import importlib
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

# Position of the class name: after the context, in its middle or before it (CoOp, sec. 3.2).
NamePosition = Literal["end", "middle", "front"]


class Settings(BaseModel):
    """Immutable base class of all settings.

    Users refer to a field by its dotted path, e.g. "generator.lr". Document a field with its
    `description`, or with a string below it.

    Raises:
        pydantic.ValidationError: Lists all faults at once (unknown key, wrong type, out of bounds).
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
        """Collapse white space in the fields' descriptions; an empty one becomes None."""
        for field in cls.model_fields.values():
            field.description = " ".join((field.description or "").split()) or None


class NamedSettings(Settings):
    """Settings of a generator or a fine-tuner, which a YAML selects by name.

    Each subclass declares `name: Literal["NAME"] = "NAME"`.

    Attributes:
        method: Subclass of ship.methods.Generator or Finetuner that these settings configure, or
            its location "module:class". A module named here is imported only when a trial starts,
            so that checking settings and planning a study do not import torch. None for a base
            class, or for a generator that synthesizes no features.
        name: Name in a YAML.
    """

    method: ClassVar[Any] = None
    name: str

    @classmethod
    def load_method(cls) -> Any:
        """Return the class that `method` names, importing its module if necessary."""
        if not isinstance(cls.method, str):
            return cls.method
        module, _, attribute = cls.method.partition(":")
        return getattr(importlib.import_module(module), attribute)

    def explain_unused(self, key: str) -> str | None:
        """Return the reason why a trial with these settings ignores a key.

        A study is rejected with these reasons if all of its configurations ignore a factor.

        Args:
            key: Dotted name of any setting of the trial, e.g. "generator.lr" or "augmentations".

        Returns:
            The reason, or None if the key may have an effect.
        """
        return None


class GeneratorSettings(NamedSettings):
    """Settings of a generator. If `method` is None, no features are synthesized.

    Example:
        >>> from typing import Literal
        >>> from pydantic import Field
        >>> class TextNoiseConfig(GeneratorSettings):
        ...     method = "my_package.methods:TextNoise"
        ...     name: Literal["text_noise"] = "text_noise"
        ...     noise: float = Field(0.1, ge=0, description="std of the noise per dimension")
        >>> TextNoiseConfig(noise=0.2).noise
        0.2
    """


class FinetunerSettings(NamedSettings):
    """Settings of a fine-tuner.

    Example:
        >>> from typing import Literal
        >>> from pydantic import Field
        >>> class RidgeConfig(FinetunerSettings):
        ...     method = "my_package.methods:Ridge"
        ...     name: Literal["ridge"] = "ridge"
        ...     l2: float = Field(1.0, gt=0, description="weight of the penalty")
        >>> RidgeConfig().l2
        1.0
    """
