"""What a study's path from the baseline lacks in the store, for whoever can run it."""

from dataclasses import dataclass
from typing import Any

from reports.analysis.design import Unavailable
from reports.analysis.path import ablation_path
from reports.contract import EmptyStudyError
from reports.read import load_records
from reports.tables import with_metric


@dataclass(frozen=True)
class PathState:
    """How far a study's path has come.

    target: the assignment of the setting that selection prefers, as missing has them.
    steps: of the path as it is now.
    missing: the assignments that it would have looked at and that have not finished. They have no
        dataset where the study is over several: each is wanted on all of them.
    """

    target: dict[str, Any]
    steps: int
    missing: tuple[dict[str, Any], ...]


def load_path(study_name: str, tracking_uri: str) -> PathState | Unavailable:
    """Read a study, and follow its path (see ablation_path).

    Raises:
        ReportError: unreadable store or unknown study (one line).
    """
    try:
        study, metric = with_metric(load_records(study_name, tracking_uri), None)
    except EmptyStudyError:
        return Unavailable("nothing has finished")
    path = ablation_path(study, metric)
    if isinstance(path, Unavailable):
        return path
    return PathState(path.target, len(path.steps), path.missing)
