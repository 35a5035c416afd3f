"""Asks before finished rows leave a study's table because its constants or data have changed."""

from collections.abc import Callable
from dataclasses import dataclass

from harness.errors import UserError
from harness.planning.changes import Changes

WAYS_OUT = (
    "--accept-changes runs their settings anew, --fresh starts a new study beside this one; "
    "nothing is lost where the old value is put back"
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
