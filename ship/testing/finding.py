"""What a check has found, in words."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Finding:
    """One clause of a contract.

    promise: what must hold, in words.
    fault: how it fails; "": it holds.
    """

    promise: str
    fault: str = ""

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return not self.fault

    def __str__(self) -> str:
        return f"holds  {self.promise}" if self.holds else f"FAILS  {self.promise}: {self.fault}"


class BrokenError(Exception):
    """A promise that is not kept; str() says how."""


def require(kept: bool, fault: str) -> None:
    """Raise BrokenError with the fault unless a promise is kept."""
    if not kept:
        raise BrokenError(fault)


def findings(
    checks: Mapping[str, Callable[[Subject], None]], subject: Subject
) -> Iterator[Finding]:
    """What each check finds, as it finds it; whatever else the subject raises is a fault, too."""
    for promise, check in checks.items():
        try:
            check(subject)
        except BrokenError as error:
            yield Finding(promise, str(error))
        except Exception as error:  # of somebody else's code
            first = (str(error).strip().splitlines() or [""])[0][:300]
            yield Finding(promise, f"{type(error).__name__}: {first}")
        else:
            yield Finding(promise)
