"""Where a run is seen in MLflow's UI."""

import re
from urllib.parse import quote, urlsplit

# Where the command that ship-sweep prints at its end serves a store that is a file or a database.
LOCAL_UI = "http://127.0.0.1:5000"


def runs_address(tracking_uri: str, experiment_id: str) -> str:
    """The address of an experiment's runs in MLflow's UI, without a run's id.

    Args:
        tracking_uri: of the store; an address of the web is that of the UI, too. Its user,
            password and query are secrets and are left out.
        experiment_id: of the study.
    """
    parts = urlsplit(tracking_uri)
    base = LOCAL_UI
    if parts.scheme in ("http", "https"):
        base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    return f"{base}/#/experiments/{quote(experiment_id, safe='')}/runs/"


def run_address(runs: str, run_id: str) -> str:
    """The address of a run, "" where there is none; ids come from a store that may be another's.

    Args:
        runs: as runs_address gives it, or "".
        run_id: of the run, or "".
    """
    known = runs and re.fullmatch(r"[\w-]+", run_id)
    return f"{runs}{run_id}" if known else ""
