"""A finished run of another study, as a run of this one."""

import base64
import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.planning import Adoption
from harness.recording.trial_runs import TrialRecorder
from harness.store import SAID, epoch_points, kept_files
from reports.contract import HITS, OBJECTIVE, TRAINED, Cost, Tag, seed_metric, split_seed

# Of these the source's hold: what else made its numbers follows from the setting.
_MADE_BY = (Tag.CODE_VERSION, Tag.PACKAGES, Tag.SOURCE_COMMIT)


def adopt(recorder: TrialRecorder, one: Adoption) -> bool:
    """Write the seeds that a study takes of another's run into a run of its own.

    It is written as a trial's is: a driver that is killed on the way leaves a run that counts for
    nothing, and the next run of the study adopts it anew.

    Args:
        recorder: of the study, which may want what was trained, too.
        one: what to adopt.

    Returns:
        Whether it was written; not where its files cannot be read now, or what was trained is
        wanted and not there.
    """
    store, save = recorder.store, recorder.study.save
    run, seeds = one.known.run, one.work.seeds
    files = store.read(lambda client: kept_files(client, run, trained=save))
    if files is None:
        return False
    hits, trained = files.pop(HITS, b""), _of_seeds(files, seeds) if save else {}
    if save and not trained:
        return False
    keys = [key for key in run.metrics if _is_of_epochs(key, seeds)]
    points = store.read(lambda client: epoch_points(client, run.run_id, keys))
    tags: dict[str, str] = {name: run.tags.get(name, "") for name in _MADE_BY}
    tags |= {Tag.ADOPTED_RUN: run.run_id, Tag.ADOPTED_STUDY: one.known.study}
    share = len(seeds) / len(one.known.row.seeds)
    final = final_of(run.metrics, seeds, one.work.setting.config.selection_metric, share)
    final["device"] = one.known.row.device
    final["hits"] = base64.b64encode(hits).decode("ascii")
    final["trained"] = trained
    recorder.start(run.run_id, one.work, tags)
    recorder.put(run.run_id, points)
    recorder.complete(run.run_id, final)
    return True


def _of_seeds(files: Mapping[str, bytes], seeds: Sequence[int]) -> dict[str, bytes]:
    """What was trained under some seeds: their files, and a trained.json that names no others.

    Args:
        files: of the run, by path; what its trained.json does not name is left out.
        seeds: that are wanted.

    Returns:
        {} where trained.json does not name all of them.
    """
    path = f"{TRAINED}/{SAID}"
    try:
        said = json.loads(files[path])
        own = [one for one in said["seeds"] if one["seed"] in seeds]
        names = [f"{TRAINED}/{one['file']}" for one in own]
    except (ValueError, KeyError, TypeError):  # missing, or damaged
        return {}
    if len(names) < len(seeds):
        return {}
    text = json.dumps({**said, "seeds": own}, indent=1).encode()
    whole = len(own) == len(said["seeds"])
    return {
        path: files[path] if whole else text,
        **{name: files[name] for name in names if name in files},
    }


def _is_of_epochs(key: str, seeds: Sequence[int]) -> bool:
    """Whether a metric is none of the final ones, nor a curve of a seed that is not wanted."""
    if key.startswith("test/") or key in (OBJECTIVE, *Cost) or split_seed(key) is not None:
        return False
    of_seed = split_seed(key.removeprefix("curve/"))
    return of_seed is None or of_seed[0] in seeds


def final_of(
    metrics: Mapping[str, float], seeds: Sequence[int], objective: str, share: float
) -> dict[str, Any]:
    """The final numbers of some seeds of a run, as a worker gives them (see harness.messages).

    Args:
        metrics: of the run.
        seeds: some of its seeds, or all.
        objective: the selection metric that is its objective; "": it has none.
        share: of the run's cost that is theirs.
    """
    values = {
        name: [metrics[seed_metric(seed, name)] for seed in seeds]
        for name in dict.fromkeys(found[1] for found in map(split_seed, metrics) if found)
        if all(seed_metric(seed, name) in metrics for seed in seeds)
    }
    test, selection = (
        {name.removeprefix(split): of for name, of in values.items() if name.startswith(split)}
        for split in ("test/", "selection/")
    )
    divided = {Cost.SECONDS: share, Cost.TEXT_TOKENS: share}
    return {
        "test": test,
        "selection": selection,
        "selection_epoch": values.get("selection_epoch", []),
        "objective": fmean(selection[objective]) if objective else None,
        **{name: metrics[name] * divided.get(name, 1.0) for name in Cost if name in metrics},
    }
