"""Who holds a study's lease, as the tags of its experiment say it; see harness.store.lock.lease."""

import json
import os
import socket
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.contract import Tag

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LOOKERS = 100  # drivers that only looked, whose tokens the tag of the last one keeps


@dataclass(frozen=True)
class Holder:
    """Who holds a lease; place: see harness.store.lock.file_lock.study_lock."""

    token: str
    host: str
    pid: int
    place: str

    @classmethod
    def me(cls, place: str) -> "Holder":
        """This process, under a token of its own."""
        return cls(uuid.uuid4().hex, socket.gethostname(), os.getpid(), place)

    def tag(self, beat: int) -> str:
        """The tag's value at a beat."""
        return json.dumps({**vars(self), "beat": beat})

    def __str__(self) -> str:
        return f"process {self.pid} on host {self.host}"


def holder_of(tag: str) -> Holder | None:
    """Who holds a lease by its tag; None: nobody that can be made out."""
    try:
        fields = json.loads(tag)
        return Holder(
            str(fields["token"]), str(fields["host"]), int(fields["pid"]), str(fields["place"])
        )
    except (ValueError, KeyError, TypeError):
        return None


def read_tag(client: "MlflowClient", experiment_id: str, name: str = Tag.LOCK) -> str:
    """The lease's tag, or another one of the experiment; "" if there is none."""
    return str(client.get_experiment(experiment_id).tags.get(name, ""))


def remove_tag(client: "MlflowClient", experiment_id: str) -> None:
    """Nobody holds the study any more."""
    try:
        client.delete_experiment_tag(experiment_id, Tag.LOCK)
    except Exception:  # an older server cannot delete one
        client.set_experiment_tag(experiment_id, Tag.LOCK, "")
