"""Gives a study of the store another name, under which its YAML finds its runs."""

import json
from pathlib import Path

from harness import store
from harness.config import NAME_RULE, is_name
from harness.environment import environment
from harness.errors import UserError
from harness.planning import Say
from harness.store import Changes, Store, StudyStore, Timing
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
    if faults := _faults(opened, old, new):
        raise UserError("\n".join(faults))
    with (
        environment(store.CLIENT_ENVIRONMENT),
        # the client itself refuses to write once the study is another driver's
        store.own_study(
            uri, old, cache_folder(cache_dir), timing or Timing(), lambda error: None, say
        ) as own,
    ):
        _rename(own, old, new)


def _faults(opened: Store, old: str, new: str) -> list[str]:
    """A line for each reason that a study cannot be renamed for."""
    names = set(opened.read(store.experiments).values())
    lines = []
    experiment_id = opened.experiment(old)
    if experiment_id is None:
        near = nearest(old, names)
        hint = f"did you mean {near}? " if near else ""
        listed = ", ".join(sorted(names - {"Default"})) or "none"
        lines.append(f"{opened.uri}: no study {show(old)} ({hint}studies here: {listed})")
    elif store.find_study_run(opened, experiment_id) is None:
        lines.append(f"{opened.uri}: experiment {show(old)} holds no study of ship-sweep")
    if not is_name(new):
        lines.append(f"the new name {NAME_RULE}, got {show(new)}")
    elif opened.experiment(new) is not None:
        what = "the name that it has" if new == old else "taken"
        lines.append(f"{opened.uri}: the new name {show(new)} is {what}")
    return lines


def _rename(opened: StudyStore, old: str, new: str) -> None:
    """Write the new name wherever the old one stands: the rows of others, the study, the store.

    Raises:
        UserError: what the store says of the study is damaged; nothing was changed.
    """
    experiment_id = opened.experiment_id
    run_id = store.find_study_run(opened, experiment_id)
    tags = {} if run_id is None else _renamed_tags(opened, run_id, old, new)
    ids, query = [*opened.read(store.experiments)], f"tags.`{Tag.ADOPTED_STUDY}` = '{old}'"
    while runs := opened.read(lambda client: client.search_runs(ids, query, max_results=PAGE)):
        for run in runs:
            opened.write(Changes(run=run.info.run_id, tags={Tag.ADOPTED_STUDY: new}))
    if run_id is not None:
        opened.write(Changes(run=run_id, tags=tags))
        opened.read(lambda client: client.update_run(run_id, name=new))
    opened.read(lambda client: client.rename_experiment(experiment_id, new))


def _renamed_tags(opened: StudyStore, run_id: str, old: str, new: str) -> dict[str, str | None]:
    """What the study's own run says of the study, under its new name; {} where it says nothing.

    Raises:
        UserError: it is damaged.
    """
    said = store.joined_tag(Tag.STUDY, opened.read(lambda client: client.get_run(run_id)).data.tags)
    if not said:
        return {}
    try:
        others = {key: value for key, value in json.loads(said).items() if key != "name"}
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{opened.uri}: study {show(old)}: tag {Tag.STUDY} of run {run_id} is damaged; run the "
            f"study once under its old name, which writes the tag anew, and rename it then"
        ) from error
    # the name last, where a run has it first: the next run then writes the tag, and with it the
    # YAML among the run's files, in which the old name may stand
    text = json.dumps({**others, "name": new})
    return {**dict.fromkeys(store.split_tag(Tag.STUDY, said)), **store.split_tag(Tag.STUDY, text)}
