"""The base of every configuration class: frozen, strict, and refusing unknown keys."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen group of settings; a field's dotted path is its name everywhere a user meets it.

    Raises:
        pydantic.ValidationError: with every fault at once (unknown key, wrong type, out of bounds).
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )
