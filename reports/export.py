"""`ship-report NAME --export optuna:URI`: the settings as an Optuna study, for its dashboard."""

from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from reports.analysis import incomparable
from reports.cells import level_id
from reports.contract import (
    SQLITE,
    ReportError,
    address_fault,
    first_line,
    redacted,
)
from reports.read import Factor, Study, heading
from reports.tables import Group, is_numeric, setting_groups

OPTUNA = "optuna:"


def export(study: Study, target: str) -> str:
    """Write a study where another program reads it.

    Args:
        study: as it was read.
        target: "optuna:" and the address of an Optuna storage, e.g. optuna:sqlite:///x.db.

    Returns:
        One line that says what was written.

    Raises:
        ReportError: no such target, an address that is not well formed, a study without selection
            scores, or its storage cannot be written, or has the study already.
    """
    uri = target.removeprefix(OPTUNA)
    if not target.startswith(OPTUNA) or not uri:
        raise ReportError(f"--export {target}: give optuna:URI, e.g. optuna:{SQLITE}x.db")
    fault = None if uri.startswith(SQLITE) else address_fault(uri)  # Optuna's sqlite takes options
    if fault:
        raise ReportError(f"--export: {fault}")
    if not study.objective:
        raise ReportError(f"{study.name}: selection none gives no score that an export could hold")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials = [*_trials(study)]
    try:
        made = optuna.create_study(storage=uri, study_name=study.name, direction="maximize")
        made.set_user_attr("value", f"selection {heading(study.protocol, study.objective)}")
        made.set_user_attr("description", study.description)
        if unlike := incomparable(study):
            made.set_user_attr("warning", f"values do not compare: {unlike}")
        made.add_trials(trials)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise ReportError(
            f"{redacted(uri)}: has a study {study.name!r} already, and an export overwrites none: "
            f"give another file, or delete it there, in Python by "
            f"optuna.delete_study(study_name={study.name!r}, storage={redacted(uri)!r})"
        ) from error
    except Exception as error:  # whatever a storage throws: the user can act on no type
        told = redacted(first_line(error))
        raise ReportError(f"{redacted(uri)}: cannot be written: {told}") from error
    return f"{len(trials)} settings as Optuna trials: optuna-dashboard {redacted(uri)}"


def _trials(study: Study) -> Iterator[FrozenTrial]:
    """A trial for each setting; its value is the mean selection objective over seeds."""
    assignments = [setting.assignment for setting in study.settings]
    used = {f.key: [own[f.key] for own in assignments if f.key in own] for f in study.factors}
    spaces = {f.key: _distribution(f, used[f.key]) for f in study.factors if used[f.key]}
    runs = study.rows["run_id"].drop_nulls().unique(maintain_order=True).to_list()
    curves = study.histories.of(study.score, runs)
    for group in setting_groups(study):
        value = group.mean(study.score)
        # what has not finished has failed
        ending = TrialState.PRUNED if group.counts.pruned else TrialState.FAIL
        levels = {key: own for key, own in group.value.assignment.items() if key in spaces}
        histories = (curves[run] for run in group.column("run_id") if run in curves)
        yield create_trial(
            state=ending if value is None else TrialState.COMPLETE,
            value=value,
            params={key: _scalar(level) for key, level in levels.items()},
            distributions={key: spaces[key] for key in levels},
            user_attrs=_attributes(study, group),
            intermediate_values=dict(next(histories, [])),
        )


def _distribution(factor: Factor, used: Sequence[Any]) -> Any:
    """Levels are categories; a range has the ends that the sampler has drawn.

    Args:
        factor: of the study.
        used: its values in the study's settings.
    """
    if factor.levels is not None or not is_numeric(used):
        return CategoricalDistribution(list(dict.fromkeys(map(_scalar, used))))
    low, high = min(used), max(used)
    log = factor.log and low > 0
    if all(isinstance(value, int) for value in used):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _scalar(level: Any) -> Any:
    """A level as Optuna's categories take it: as it is, or a text."""
    return level if isinstance(level, str | int | float | None) else level_id(level)


def _attributes(study: Study, group: Group) -> dict[str, Any]:
    """What Optuna has no place for: test results, counts, the key and the runs."""
    means = {f"test/{name}": group.mean(f"test/{name}") for name in study.protocol.headings}
    means["seconds a seed"] = group.mean("seconds")
    told: dict[str, Any] = {name: value for name, value in means.items() if value is not None}
    told |= {"seeds": group.counts.done, "failed": group.counts.failed}
    told["setting_key"] = group.value.key
    told["mlflow runs"] = list(dict.fromkeys(group.known("run_id")))
    return told
