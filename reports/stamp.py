"""What a report is made of, as one short text: equal stamps, equal reports."""

import hashlib
import json
from importlib.resources import files
from importlib.resources.abc import Traversable

from reports.read import Study

LENGTH = 32  # characters


def stamp_of(study: Study, metric: str) -> str:
    """The digest of a study's rows, of what describes it, and of the code that makes the report.

    The right answers and histories that runs keep are not read for it: a run that has ended keeps
    them as they are.

    Args:
        study: as it was read.
        metric: that the report is of.
    """
    said = {
        "metric": metric,
        "config": study.config,
        "versions": study.versions,
        "constants": study.constants,
        "settings": [[s.key, s.assignment, s.arm, s.added] for s in study.settings],
        "words": [study.name, study.description, study.runs_address, *study.warnings],
        "counts": [study.left_out, study.untried],
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    digest.update(study.rows.write_csv().encode())
    digest.update(_code(files("reports")))
    return digest.hexdigest()[:LENGTH]


def _code(folder: Traversable) -> bytes:
    """The digest of the package's files."""
    digest = hashlib.sha256()
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            if entry.name != "__pycache__":
                digest.update(_code(entry))
        else:
            digest.update(entry.name.encode() + entry.read_bytes())
    return digest.digest()
