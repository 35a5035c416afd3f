"""Finished rows that leave a study's table: how many they are, and whether they may."""

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import UserError
from harness.store import LedgerRun

WAYS_OUT = (
    "--accept-changes runs their settings anew, --set name=ANOTHER starts a study beside this one; "
    "nothing is lost where the old value is put back"
)
MOST_SHOWN = 12


@dataclass
class Rows:
    """Finished rows: (key, seed) -> the seconds that one took."""

    seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    def add(self, key: str, seed: int, run: LedgerRun) -> None:
        """Count a row of a run.

        Args:
            key: of the row's setting.
            seed: of the row.
            run: that the row is of; its time is shared equally by its seeds.
        """
        self.seconds[key, seed] = (run.seconds or 0.0) / len(run.seeds)

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def text(self) -> str:
        """E.g. "6 finished rows of 3 settings (3.4 min of computing)"."""
        from harness.wording import duration

        settings = len({key for key, _ in self.seconds})
        many = f"{len(self)} finished row{'s' * (len(self) != 1)}"
        of = f"{settings} setting{'s' * (settings != 1)}"
        return f"{many} of {of} ({duration(sum(self.seconds.values()))} of computing)"


@dataclass
class Changes:
    """What a study that has been edited leaves out of its table.

    changed: rows whose setting is still asked for, but under other constants, data, weights or
        another results version.
    removed: rows of levels, arms or seeds that the YAML does not ask for any more.
    differences: why `changed` is what it is, a line each.
    """

    changed: Rows = field(default_factory=Rows)
    removed: Rows = field(default_factory=Rows)
    differences: dict[str, None] = field(default_factory=dict)

    def text(self, source: str) -> str:
        """What has changed and what it costs, some lines; "" without `changed`."""
        if not self.changed:
            return ""
        listed = list(self.differences)
        more = [f"and {len(listed) - MOST_SHOWN} more"] if len(listed) > MOST_SHOWN else []
        lines = [f"  {line}" for line in [*listed[:MOST_SHOWN], *more]]
        return "\n".join(
            [
                f"{source}: the study has changed:",
                *lines,
                f"{self.changed.text} would leave the table, and stay in MLflow",
            ]
        )


class StudyChanged(UserError):
    """Finished rows would leave the table, and nobody has said that they may."""


@dataclass(frozen=True)
class Consent:
    """Whether finished rows may leave.

    accepted: they may, by --accept-changes.
    ask: puts a question to a person and says whether the answer is yes; None: nobody is there.
    """

    accepted: bool = False
    ask: Callable[[str], bool] | None = None

    def check(self, changes: Changes, source: str) -> None:
        """Return if nothing changed that matters, or the change is accepted.

        Raises:
            StudyChanged: it is not.
        """
        text = changes.text(source)
        if not text or self.accepted:
            return
        if self.ask is None:
            raise StudyChanged(f"{text}\n{WAYS_OUT}")
        if not self.ask(f"{text}\n{WAYS_OUT}\nRun these settings anew?"):
            raise StudyChanged("nothing was run")
