"""Factors of a search space: their choices, ranges and levels, and how they combine."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from harness.errors import Fault
from ship.settings import Settings

MAX_LEVELS = 1000


def _check_single(value: Any) -> Any:
    if not isinstance(value, str | int | float | None):
        raise ValueError("must be a single value")
    return value


def _wrap_in_tuple(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


def _check_number(value: Any) -> Any:
    """Validate an integer or a float without converting it."""
    if type(value) not in (int, float):
        raise ValueError("must be a number")
    if (type(value) is int and abs(value) > 2**53) or not math.isfinite(value):
        raise ValueError("must be finite (integers: at most 2^53)")
    return value


_Number = Annotated[int | float, PlainValidator(_check_number)]
_Levels = Annotated[
    tuple[Annotated[Any, AfterValidator(_check_single)], ...],
    Field(strict=False, min_length=1, max_length=MAX_LEVELS),
]


class Factor(Settings):
    """Values of one dotted key: `choices`, or a range from `low` to `high`.

    In a YAML, a plain list is short for `choices`. `levels` is the number of levels of a range in a
    grid. They are evenly spaced, on a logarithmic scale if `log` is true, and include both ends.
    Other samplers draw from the whole range.

    A factor with `when` is active only if each factor that `when` names has one of the listed
    values.
    """

    choices: _Levels | None = None
    """the factor's levels; `KEY: [...]` is short for `KEY: {choices: [...]}`"""
    low: _Number | None = None
    """lower end of a range"""
    high: _Number | None = None
    """upper end of a range"""
    log: bool = False
    """whether values are drawn, and levels spaced, on a logarithmic scale"""
    step: _Number | None = None
    """distance between a range's levels"""
    levels: int | None = Field(None, ge=2, le=MAX_LEVELS)
    """number of evenly spaced levels of a range; fewer if rounding makes some of them equal"""
    baseline: Any = None
    """the level that the others are compared with"""
    when: dict[str, Annotated[_Levels, BeforeValidator(_wrap_in_tuple)]] = Field(
        default_factory=dict
    )
    """values of other factors for which this one is active, e.g. {generator: [vae, wgan]}"""

    @property
    def bounds(self) -> tuple[float, float]:
        """(low, high) of a range.

        Raises:
            ValueError: The factor is not a range, or lacks an end.
        """
        if self.low is None or self.high is None:
            raise ValueError("a factor of choices has no low and high")
        return self.low, self.high

    @property
    def whole(self) -> bool:
        """Whether a range contains only whole numbers: its ends and step are integers."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def spacing(self) -> float | None:
        """Distance between the values of a range. None if any number within it is allowed."""
        return self.step or (1 if self.whole else None)

    def enumerate(self) -> tuple[Any, ...] | None:
        """Return the levels in a grid, ascending for a range. None without choices, step or levels.

        Levels within a range are rounded to integers or to six significant digits; its ends are
        exact. Rounding may leave fewer than `levels`: 1 to 3 does not contain five integers.
        """
        if self.choices is not None:
            return self.choices
        low, high = self.bounds
        if self.step:
            levels = [low + i * self.step for i in range(1, round((high - low) / self.step))]
        elif self.levels:
            start, end = (math.log(low), math.log(high)) if self.log else (low, high)
            n_steps = self.levels - 1
            levels = [start + i / n_steps * (end - start) for i in range(1, n_steps)]
            levels = [math.exp(level) for level in levels] if self.log else levels
        else:
            return None
        rounded = map(round, levels) if self.whole else (float(f"{level:.6g}") for level in levels)
        return tuple(dict.fromkeys((low, *rounded, high)))

    def list_values(self) -> Iterable[Any] | None:
        """Return all values that a sampler may draw, ascending for a range.

        None if the factor is a range of real numbers without a step.
        """
        if self.choices is not None or self.step is not None:
            return self.enumerate()
        low, high = self.bounds
        return range(round(low), round(high) + 1) if self.whole else None


# dotted name of each active factor -> value
Assignment = dict[str, Any]
# function: dotted name and factor -> the factor's values in assignments
Values = Callable[[str, Factor], Iterable[Any] | None]


def are_equal(level: Any, other_level: Any) -> bool:
    """Return True if two levels are equal. 1 and 1.0 are the same level, 1 and true are not."""
    return bool(level == other_level) and isinstance(level, bool) == isinstance(other_level, bool)


def is_among(value: Any, values: Sequence[Any]) -> bool:
    """Return True if a value equals one of several levels."""
    return any(are_equal(value, level) for level in values)


def is_allowed(factor: Factor, levels: Sequence[Any] | None, value: Any) -> bool:
    """Return True if a factor may have a value.

    Args:
        factor: The factor.
        levels: Levels of the factor. None for a range from which values are drawn.
        value: Value to check.
    """
    if levels is not None:
        return is_among(value, levels)
    low, high = factor.bounds
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    spacing = factor.spacing
    # a tolerance, because the levels of a step are rounded to six digits
    level = low + round((value - low) / spacing) * spacing if spacing else value
    is_close = math.isclose(value, level, rel_tol=1e-6, abs_tol=1e-8 * (spacing or 0))
    return low <= value <= high and is_close


def is_active(factor: Factor, assignment: Mapping[str, Any]) -> bool:
    """Return True if a factor is active, given the values of the factors in its `when`."""
    return all(
        key in assignment and is_among(assignment[key], values)
        for key, values in factor.when.items()
    )


def sort_by_condition(space: Mapping[str, Factor]) -> list[str]:
    """Return the keys of factors, each after the keys in its `when`.

    Factors whose conditions form a cycle are left out, and so are factors that depend on these.
    """
    order: list[str] = []
    keys = list(space)
    while ready := [
        key for key in keys if all(name in order for name in space[key].when if name in space)
    ]:
        order.append(ready[0])
        keys.remove(ready[0])
    return order


def iter_assignments(
    space: Mapping[str, Factor], values: Values = lambda _, factor: factor.enumerate()
) -> Iterator[Assignment]:
    """Iterate over the combinations of values of active factors. The last factor varies fastest.

    Args:
        space: Factors by dotted name.
        values: Function that returns the values of a factor. If it returns () or None, the factor
            is left out. Defaults to the factor's levels.
    """
    combinations: Iterator[Assignment] = iter([{}])
    for key in sort_by_condition(space):
        combinations = _extend(combinations, key, space[key], values)
    return ({key: combo[key] for key in space if key in combo} for combo in combinations)


def _extend(
    combinations: Iterator[Assignment], key: str, factor: Factor, values: Values
) -> Iterator[Assignment]:
    """Yield each combination once per value of a factor. Without values it is yielded unchanged."""
    for combination in combinations:
        levels = values(key, factor) if is_active(factor, combination) else ()
        if levels:
            yield from ({**combination, key: level} for level in levels)
        else:
            yield combination


def find_factor_faults(factor: Factor) -> list[Fault]:
    """Return the faults of a factor whose keys do not fit together, e.g. if low > high.

    Each key by itself must be valid. The paths of the faults begin below the factor, e.g. "low".
    """
    low, high, step, choices = factor.low, factor.high, factor.step, factor.choices
    if choices is not None:
        rule = "must not repeat an earlier level"
        repeats = [index for index, level in enumerate(choices) if is_among(level, choices[:index])]
        faults = [Fault(f"choices[{index}]", rule, choices[index]) for index in repeats]
        for name in ("low", "high", "log", "step", "levels"):
            # unlike None and False, 0 is a value of the YAML
            if not is_among(value := getattr(factor, name), (None, False)):
                faults.append(Fault(name, "cannot be combined with choices", value))
        return faults
    if low is None or high is None:
        ends = {"low": low, "high": high}
        rule = "is required if there are no choices"
        return [Fault(name, rule) for name, end in ends.items() if end is None]
    n_steps = (high - low) / step if step and low < high else 1
    is_uneven = 0 < n_steps < MAX_LEVELS and (
        round(n_steps) < 1 or abs(n_steps - round(n_steps)) > 1e-6
    )
    rules = (  # (key, whether its value breaks the rule, rule)
        ("low", low >= high, f"must be < high ({high})"),
        ("low", factor.log and low <= 0, "must be > 0 when log is true"),
        ("step", step is not None and step <= 0, "must be > 0"),
        ("step", step and factor.log, "cannot be combined with log: true (use levels instead)"),
        ("step", step and factor.levels, "cannot be combined with levels"),
        ("step", n_steps >= MAX_LEVELS, f"must result in at most {MAX_LEVELS} levels"),
        ("step", is_uneven, f"must divide high - low ({high - low:.6g})"),
    )
    return [Fault(name, rule, getattr(factor, name)) for name, is_bad, rule in rules if is_bad]
