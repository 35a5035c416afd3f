"""`ship-report NAME --export optuna:URI`: the settings as an Optuna study, for its dashboard."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.analysis import incomparable
from reports.contract import (
    ADDED_BY_PATH,
    COMPLETE,
    FAIL,
    PRUNED,
    SQLITE,
    ReportError,
    address_fault,
    redacted,
)
from reports.read import Factor, Study, heading
from reports.tables import Group, level_id, setting_groups

OPTUNA = "optuna:"
_SCALARS = (str, int, float, bool, type(None))


def export(study: Study, target: str) -> str:
    """Write a study where another program reads it.

    Args:
        study: as it was read.
        target: "optuna:" and the address of an Optuna storage, e.g. optuna:sqlite:///x.db.

    Returns:
        One line that says what was written.

    Raises:
        ReportError: no such target, an address that is not well formed, or its storage cannot be
            written, or has the study already.
    """
    uri = target.removeprefix(OPTUNA)
    if not target.startswith(OPTUNA) or not uri:
        raise ReportError(f"--export {target}: give optuna:URI, e.g. optuna:{SQLITE}x.db")
    fault = None if uri.startswith(SQLITE) else address_fault(uri)  # Optuna's sqlite takes options
    if fault:
        raise ReportError(f"--export: {fault}")
    return _to_optuna(study, uri)


def _to_optuna(study: Study, uri: str) -> str:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials = _trials(study)
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
    except (
        Exception
    ) as error:  # a storage may throw anything; the user can act on none of the types
        line = next((s for s in str(error).splitlines() if s.strip()), type(error).__name__)
        raise ReportError(f"{redacted(uri)}: cannot be written: {redacted(line)}") from error
    return f"{len(trials)} settings as Optuna trials: optuna-dashboard {redacted(uri)}"


def _trials(study: Study) -> list[Any]:
    """A trial for each setting; its value is the mean selection objective over seeds."""
    from optuna.trial import create_trial

    spaces = {factor.key: _distribution(study, factor) for factor in study.factors}
    used = {key: _used(study, key) for key in spaces}
    runs = [str(one) for one in study.rows["run_id"].drop_nulls().unique(maintain_order=True)]
    curves = study.histories.of(f"selection/{study.objective}", runs)
    return [
        create_trial(
            state=state,
            value=value,
            params=params,
            distributions={key: spaces[key] for key in params},
            user_attrs=_attributes(study, group),
            intermediate_values=_curve(group, curves),
        )
        for group in setting_groups(study)
        for state, value in [_ending(study, group)]
        for params in [_params(spaces, used, group.value.assignment)]
    ]


def _ending(study: Study, group: Group) -> tuple[Any, float | None]:
    """Optuna's state of a setting, and its value; what has not finished has failed."""
    from optuna.trial import TrialState

    values = list(group.seeds(f"selection/{study.objective}").values())
    if group.count(COMPLETE) and values:
        return TrialState.COMPLETE, sum(values) / len(values)
    return (TrialState.PRUNED if group.count(PRUNED) else TrialState.FAIL), None


def _distribution(study: Study, factor: Factor) -> Any:
    """Levels are categories; a range has the ends that the sampler has drawn."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    used = _used(study, factor.key)
    numbers = [v for v in used if isinstance(v, int | float) and not isinstance(v, bool)]
    if factor.levels is not None or len(numbers) < len(used) or not numbers:
        return CategoricalDistribution(
            list(dict.fromkeys(_category(used, value) for value in used))
        )
    low, high = min(numbers), max(numbers)
    log = factor.log and low > 0
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _used(study: Study, key: str) -> list[Any]:
    """The levels of a factor in the study's settings."""
    return [s.assignment[key] for s in study.settings if key in s.assignment]


def _params(
    spaces: Mapping[str, Any], used: Mapping[str, Sequence[Any]], assignment: Mapping[str, Any]
) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution

    return {
        key: _category(used[key], value)
        if isinstance(spaces[key], CategoricalDistribution)
        else value
        for key, value in assignment.items()
        if key in spaces
    }


def _category(used: Sequence[Any], value: Any) -> Any:
    """A level as Optuna's categories take it: as it is, or its text where levels would be equal."""
    ids = {level_id(one) for one in used}
    plain = all(isinstance(one, _SCALARS) for one in used)
    if plain and len(set(used)) == len(ids):
        return value
    return value if isinstance(value, str) else level_id(value)


def _attributes(study: Study, group: Group) -> dict[str, Any]:
    """What Optuna has no place for: test results, counts, the key and the runs."""
    own = group.done
    means: dict[str, Any] = {}
    for name in study.protocol.headings:
        values: Sequence[float] = list(group.seeds(f"test/{name}").values())
        if values:
            means[f"test/{name}"] = sum(values) / len(values)
    runs = own["run_id"].drop_nulls().unique(maintain_order=True).to_list()
    seconds = own["seconds"].drop_nulls().to_list()
    cost = {"seconds a seed": sum(seconds) / len(seconds)} if seconds else {}
    counts = {"seeds": len(own), "failed": group.count(FAIL), "setting_key": group.value.key}
    added = {"added": ADDED_BY_PATH} if group.value.added else {}
    return {**means, **cost, **counts, **added, "mlflow runs": runs}


def _curve(group: Group, curves: Mapping[str, Sequence[tuple[int, float]]]) -> dict[int, float]:
    """The selection objective by step, of the setting's first run that has a history."""
    runs = [str(one) for one in group.rows["run_id"].drop_nulls().unique(maintain_order=True)]
    return dict(next((curves[run] for run in runs if run in curves), []))
