"""One factor of a search space: what it may be, and the levels that it takes."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from harness.errors import Fault
from ship.settings import Settings

MAX_LEVELS = 1000


def _single(value: Any) -> Any:
    if not isinstance(value, str | int | float | None):
        raise ValueError("must be a single value")
    return value


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


def _number(value: Any) -> Any:
    """An integer or a float, as it was given."""
    if type(value) not in (int, float):
        raise ValueError("must be a number")
    if (type(value) is int and abs(value) > 2**53) or not math.isfinite(value):
        raise ValueError("must be finite (an integer: at most 2^53)")
    return value


_Number = Annotated[int | float, PlainValidator(_number)]
_Levels = Annotated[
    tuple[Annotated[Any, AfterValidator(_single)], ...],
    Field(strict=False, min_length=1, max_length=MAX_LEVELS),
]


class Factor(Settings):
    """What one dotted field varies over: `choices`, or a range from `low` to `high`.

    A list alone stands for its choices. `levels` counts a grid's levels of a range (both ends
    included, evenly spaced, in the logarithm if `log`); the other samplers draw from the whole
    range. A factor with `when` is there only while each factor it names has one of the values.
    """

    choices: _Levels | None = None
    """its levels; a list alone stands for them"""
    low: _Number | None = None
    """one end of a range"""
    high: _Number | None = None
    """the other end of a range"""
    log: bool = False
    """draw from, or divide, a range in its log"""
    step: _Number | None = None
    """distance between a range's levels"""
    levels: int | None = Field(None, ge=2, le=MAX_LEVELS)
    """evenly spaced levels of a range; fewer where some are equal"""
    baseline: Any = None
    """the level that the others are compared with"""
    when: dict[str, Annotated[_Levels, BeforeValidator(_listed)]] = Field(default_factory=dict)
    """values of other factors with which this one is there, e.g. {generator: [vae, wgan]}"""

    @property
    def bounds(self) -> tuple[float, float]:
        """(low, high) of a range.

        Raises:
            ValueError: it is no range, or lacks an end.
        """
        if self.low is None or self.high is None:
            raise ValueError("a factor of choices has no low and high")
        return self.low, self.high

    @property
    def whole(self) -> bool:
        """Whether a range has whole numbers alone, as its ends and its step are."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def spacing(self) -> float | None:
        """Distance between the values of a range; None: it may have any number between its ends."""
        return self.step or (1 if self.whole else None)

    def enumerate(self) -> tuple[Any, ...] | None:
        """The levels of a grid, ascending for a range; None if nothing says how many there are.

        They are as a person would write them: integers, or of six digits; the ends are exact. There
        may be fewer than were asked for: 1 to 3 has no five integers.
        """
        if self.choices is not None:
            return self.choices
        low, high = self.bounds
        if self.step:
            inside = [low + i * self.step for i in range(1, round((high - low) / self.step))]
        elif self.levels:
            start, end = (math.log(low), math.log(high)) if self.log else (low, high)
            parts = self.levels - 1
            inside = [start + i / parts * (end - start) for i in range(1, parts)]
            inside = [math.exp(one) for one in inside] if self.log else inside
        else:
            return None
        tidy = map(round, inside) if self.whole else (float(f"{one:.6g}") for one in inside)
        return tuple(dict.fromkeys((low, *tidy, high)))

    def drawn(self) -> Iterable[Any] | None:
        """All that a sampler may draw, ascending for a range; None: any number between its ends."""
        if self.choices is not None or self.step is not None:
            return self.enumerate()
        low, high = self.bounds
        return range(round(low), round(high) + 1) if self.whole else None


# dotted name -> value, of the factors that are active
Assignment = dict[str, Any]
# given a factor and its key, the values that an assignment may have of it
Values = Callable[[str, Factor], Iterable[Any] | None]


def same(one: Any, other: Any) -> bool:
    """Equality of two levels: 1 and 1.0 are one level, 1 and true are two."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def is_among(value: Any, values: Sequence[Any]) -> bool:
    """Whether `value` is one of the levels."""
    return any(same(value, other) for other in values)


def may_be(factor: Factor, levels: Sequence[Any] | None, value: Any) -> bool:
    """Whether a factor may be a value.

    Args:
        levels: that it takes; None: it is a range, any number of which, or step, may be drawn.
    """
    if levels is not None:
        return is_among(value, levels)
    low, high = factor.bounds
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    spacing = factor.spacing
    # levels by steps are drawn with six digits
    level = low + round((value - low) / spacing) * spacing if spacing else value
    near = math.isclose(value, level, rel_tol=1e-6, abs_tol=1e-8 * (spacing or 0))
    return low <= value <= high and near


def is_active(factor: Factor, assignment: Mapping[str, Any]) -> bool:
    """Whether the factor is there, given the values of the factors that its `when` names."""
    return all(
        key in assignment and is_among(assignment[key], values)
        for key, values in factor.when.items()
    )


def in_order(space: Mapping[str, Factor]) -> list[str]:
    """The keys, each behind those its `when` names, else as written; a cycle's are left out."""
    ordered: list[str] = []
    waiting = list(space)
    while ready := [
        key for key in waiting if all(name in ordered for name in space[key].when if name in space)
    ]:
        ordered.append(ready[0])
        waiting.remove(ready[0])
    return ordered


def assignments(
    space: Mapping[str, Factor], values: Values = lambda _, factor: factor.enumerate()
) -> Iterator[Assignment]:
    """Every combination of factors that are active beside each other, the last running fastest.

    Args:
        values: gives those that a factor runs over; (), None: it is left out.
    """
    found: Iterator[Assignment] = iter([{}])
    for key in in_order(space):
        found = _extended(found, key, space[key], values)
    return ({key: one[key] for key in space if key in one} for one in found)


def _extended(
    done: Iterator[Assignment], key: str, factor: Factor, values: Values
) -> Iterator[Assignment]:
    """The combinations with each value of one more factor, where that is active."""
    for one in done:
        found = values(key, factor) if is_active(factor, one) else ()
        yield from ({**one, key: value} for value in found) if found else (one,)


def factor_faults(factor: Factor) -> list[Fault]:
    """Faults within one factor whose keys are sound, by paths below it ("" is the factor)."""
    low, high, step, choices = factor.low, factor.high, factor.step, factor.choices
    if choices is not None:
        must = "must differ from the levels before it"
        twice = [at for at, level in enumerate(choices) if is_among(level, choices[:at])]
        faults = [Fault(f"choices[{at}]", must, choices[at]) for at in twice]
        for name in ("low", "high", "log", "step", "levels"):
            if not is_among(value := getattr(factor, name), (None, False)):  # 0 is neither
                faults.append(Fault(name, "must be left out beside choices", value))
        return faults
    if low is None or high is None:
        ends = {"low": low, "high": high}
        must = "must be given where there are no choices"
        return [Fault(name, must) for name, end in ends.items() if end is None]
    parts = (high - low) / step if step and low < high else 1
    uneven = 0 < parts < MAX_LEVELS and (round(parts) < 1 or abs(parts - round(parts)) > 1e-6)
    rules = (
        ("low", low >= high, f"must be < high, which is {high}"),
        ("low", factor.log and low <= 0, "must be > 0 when log is true"),
        ("step", step is not None and step <= 0, "must be > 0"),
        ("step", step and factor.log, "must be left out when log is true (use levels)"),
        ("step", step and factor.levels, "must be left out beside levels"),
        ("step", parts >= MAX_LEVELS, f"must give at most {MAX_LEVELS} levels"),
        ("step", uneven, f"must divide high - low, which is {high - low:.6g}"),
    )
    return [Fault(name, must, getattr(factor, name)) for name, broken, must in rules if broken]
