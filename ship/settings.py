"""The base of every configuration class."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A frozen group of settings; a field's dotted path is its name everywhere a user meets it.

    Raises:
        pydantic.ValidationError: with every fault at once (unknown key, wrong type, out of bounds).
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False
    )


class NamedSettings(Settings):
    """Settings of one of several variants, such as a generator; a YAML tells it by its name.

    Variants give `name` the type Literal["NAME"], and that name as its default.
    """

    name: str

    def unread_reason(self, key: str) -> str | None:
        """Why a trial with these settings does not read one of its settings; None: it may read it.

        A study in which no setting reads a factor is refused with the reason.

        Args:
            key: dotted name of any setting of the trial, such as "generator.lr" or "views".
        """
        return None

    def n_weights(self, feature_dim: int) -> int:
        """The fewest weights that the networks of one seed have; 0 where no setting sizes them.

        Args:
            feature_dim: size of the backbone's features.
        """
        return 0
