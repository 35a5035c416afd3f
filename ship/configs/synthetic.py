"""How synthetic features may join real ones."""

from typing import Literal

from pydantic import Field

from ship.settings import Settings


class SyntheticConfig(Settings):
    """How synthetic features join a fine-tuner's training set."""

    ratio: float = Field(
        1.0,
        gt=0,
        le=16,
        description="synthetic features beside each real one in a step (fine-tuners without cache)",
    )
    per_class: int | None = Field(
        None,
        ge=1,
        description="features a class in a cache or fixed set; null: as many as shots",
    )
    draw: Literal["fresh", "fixed"] = Field(
        "fresh", description="fresh noise at each step, or steps that draw from one fixed set"
    )
    weight: float = Field(
        1.0,
        gt=0,
        description="weight of a synthetic feature's loss, where a real feature has 1 (gda: of the "
        "feature itself; lp_plus_plus: of both)",
    )
