"""Gives a study of the store another name, under which its YAML finds its runs."""

from pathlib import Path

from harness import store
from harness.config import NAME_RULE, is_name
from harness.errors import Fault, UserError
from harness.planning import Say
from harness.store import Changes, StudyStore, Timing
from harness.study.features import cache_folder
from harness.wording import nearest, show
from reports.contract import Tag

PAGE = 1000  # runs a request


def rename_study(
    old: str,
    new: str,
    *,
    tracking_uri: str | None = None,
    cache_dir: Path | str | None = None,
    timing: Timing | None = None,
    say: Say = print,
) -> None:
    """Rename a study that nobody runs; nothing of its runs is changed.

    The experiment's name is the last that changes: a rename that is cut short is made whole by the
    same call.

    Args:
        old, new: its names; `new` as a YAML may have it.
        tracking_uri: of the MLflow store; None: MLFLOW_TRACKING_URI, else ./mlflow.db.
        cache_dir: where writes of the study may wait for the store, which are sent first.
        timing: of the lease that keeps other drivers away.
        say: told what is waited for.

    Raises:
        harness.errors.UserError: there is no such study, the name is taken or not allowed, another
            driver runs the study, or the store cannot be used.
    """
    uri = store.store_uri(tracking_uri)
    opened = store.find_store(uri)
    if opened is None:
        raise UserError(f"{uri}: no MLflow store here")
    names = set(opened.read(store.experiments).values()) - {"Default"}
    lines = []
    if old not in names:
        must, choices = "must hold the study", tuple(sorted(names))
        lines.append(Fault(f"{uri}:", must, old, choices, nearest(old, names)).text)
    if not is_name(new) or opened.experiment(new) is not None:
        lines.append(f"{uri}: the new name {NAME_RULE}, and be free, got {show(new)}")
    if lines:
        raise UserError("\n".join(lines))
    # the client itself refuses to write once the study is another driver's
    with store.own_study(
        uri, old, cache_folder(cache_dir), timing or Timing(), lambda error: None, say
    ) as own:
        _rename(own, old, new)


def _rename(opened: StudyStore, old: str, new: str) -> None:
    """Write the new name wherever the old one stands: the rows of others, the study, the store.

    The study's own tags say the old one until its next run; whoever reads them goes by the store.

    Raises:
        UserError: the experiment holds no study.
    """
    experiment_id = opened.experiment_id
    own = store.find_study_run(opened, experiment_id)
    if own is None:
        raise UserError(f"{opened.uri}: experiment {show(old)} holds no study of ship-sweep")
    ids, query = [*opened.read(store.experiments)], f"tags.`{Tag.ADOPTED_STUDY}` = '{old}'"
    while runs := opened.read(lambda client: client.search_runs(ids, query, max_results=PAGE)):
        for run in runs:
            opened.write(Changes(run=run.info.run_id, tags={Tag.ADOPTED_STUDY: new}))
    opened.read(lambda client: client.update_run(own.info.run_id, name=new))
    opened.read(lambda client: client.rename_experiment(experiment_id, new))
