"""Who holds a study's lease, as a tag of its experiment says it; see harness.store.lock.lease."""

import json
import os
import socket
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.contract import Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

# Tag.LAST_DRIVER holds the tokens of the last driver that ran something, and of those that have
# only looked at the study since, newest first. A driver that claims the lease puts its own token
# in front; this is the most earlier tokens that it keeps.
EARLIER_DRIVERS_KEPT = 100


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    token: differs for every driver.
    host: name of the host that the driver runs on.
    pid: of the driver's process.
    place: which lock file of which start of the host the driver has locked; "" where it has none
        (harness.store.lock.file_lock.study_lock).
    """

    token: str
    host: str
    pid: int
    place: str

    @classmethod
    def me(cls, place: str) -> "Holder":
        """This process, under a new token; place: that of the lock that it has."""
        return cls(uuid.uuid4().hex, socket.gethostname(), os.getpid(), place)

    def tag(self, beat: int) -> str:
        """The tag's value; beat: how many times the holder has written it."""
        return json.dumps({**vars(self), "beat": beat})

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}"


def holder_of(tag: str) -> Holder | None:
    """Who holds a lease, read from its tag's value; None where the value names no holder."""
    try:
        fields = json.loads(tag)
        return Holder(
            str(fields["token"]), str(fields["host"]), int(fields["pid"]), str(fields["place"])
        )
    except (ValueError, KeyError, TypeError):
        return None


def read_tag(client: "MlflowClient", experiment_id: str, name: str = Tag.LOCK) -> str:
    """The value of a tag of the experiment, by default the lease's.

    Args:
        client: of the store.
        experiment_id: the study's experiment.
        name: of the tag.

    Returns:
        The value, or "" if there is no such tag.
    """
    return str(client.get_experiment(experiment_id).tags.get(name, ""))


def remove_tag(client: "MlflowClient", experiment_id: str) -> None:
    """Remove the lease's tag, so that nobody holds the study any more."""
    try:
        client.delete_experiment_tag(experiment_id, Tag.LOCK)
    except Exception:  # an older server cannot delete a tag
        client.set_experiment_tag(experiment_id, Tag.LOCK, "")
