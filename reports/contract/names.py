"""Studies of one name: NAME.1 is the first, NAME.2 and so on are what `ship-sweep --fresh` began.

The first has the MLflow experiment NAME, a later one NAME.2, with a tag that says so. A study's own
name has no full stop, so that no study of the user's can be called like one of these.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

TAG_FRESH_OF: Final = "ship.fresh_of"  # of an experiment: the name that it is a later study of
_NUMBERED = re.compile(r"(?P<name>.+)\.(?P<number>[1-9][0-9]{0,5})")


def split_name(name: str) -> tuple[str, int | None]:
    """("prompt_len", 2) of "prompt_len.2"; None: no number is named."""
    match = _NUMBERED.fullmatch(name)
    return (match["name"], int(match["number"])) if match else (name, None)


def experiment_name(name: str, number: int) -> str:
    """The MLflow experiment of a study."""
    return name if number == 1 else f"{name}.{number}"


@dataclass(frozen=True)
class Found:
    """A study among those of its name.

    numbers: of all that there are, ascending.
    """

    name: str
    number: int
    numbers: tuple[int, ...]

    @property
    def experiment(self) -> str:
        """MLflow's name of it."""
        return experiment_name(self.name, self.number)

    @property
    def exact(self) -> str:
        """What it alone is called: with its number where there are others."""
        return f"{self.name}.{self.number}" if self.beside else self.experiment

    @property
    def beside(self) -> tuple[str, ...]:
        """What the others are called, oldest first."""
        return tuple(f"{self.name}.{n}" for n in self.numbers if n != self.number)

    @property
    def newest(self) -> bool:
        """Whether none was begun later."""
        return self.number >= max(self.numbers, default=0)

    @property
    def line(self) -> str:
        """Which one it is, in words; "" where there is but one."""
        if not self.beside:
            return ""
        kind = "the newest" if self.newest else f"an older one, the newest is {self.beside[-1]}"
        return f"study {self.exact}, {kind}; beside it: {', '.join(self.beside)}"


def find_study(name: str, experiments: Mapping[str, str]) -> Found | None:
    """The study that a name means: the one of its number, or else the newest; None: no such study.

    Args:
        experiments: name of each experiment of the store -> its TAG_FRESH_OF, "" without.
    """
    base, number = split_name(name)
    numbers = {1} if base in experiments else set()
    for experiment, fresh_of in experiments.items():
        found, later = split_name(experiment)
        if later is not None and later > 1 and found == base == fresh_of:
            numbers.add(later)
    ordered = tuple(sorted(numbers))
    if number is None and ordered:
        number = ordered[-1]
    return Found(base, number, ordered) if number in numbers and number is not None else None
