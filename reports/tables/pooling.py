"""Parts of a study: on one dataset, by methods or by their averages."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from harness.store import APART, COMPLETE, FAIL, MISSING, PRUNED, Configuration, Factor, level_id
from reports.cells import level_text
from reports.study import Study, frame
from reports.tables.groups import Group, chosen_by, labels_of, ordered_levels, rows_of

DATASET = "dataset"
_COSTS = ("seconds", "text_tokens", "peak_memory_mb")


def datasets(study: Study) -> list[str]:
    """The datasets of a grid over at least two, in the order of its levels; [] of other studies."""
    over = [factor for factor in study.factors if factor.key == DATASET and study.sampler == "grid"]
    names = [level_text(level) for factor in over for level in ordered_levels(study, factor)]
    return names if len(names) > 1 else []


def beside_dataset(study: Study) -> tuple[Factor, ...]:
    """The factors of a study over datasets that are not the dataset."""
    return tuple(factor for factor in study.factors if factor.key != DATASET)


def arms_dataset(study: Study) -> str:
    """The dataset that the reference arms ran on: the factor's baseline, else its first level."""
    named = [level_text(factor.baseline) for factor in study.factors if factor.key == DATASET]
    names = datasets(study)
    return next(name for name in (*named, *names) if name in names)


def class_factors(study: Study) -> list[Factor]:
    """The factors whose levels are measured on other classes, or on more of them."""
    return [factor for factor in study.factors if factor.key in (*APART, "max_classes")]


def methods(study: Study) -> list[Configuration]:
    """Every combination of the factors beside the dataset, in the order of their levels.

    Each one's parts are in the order of the datasets.
    """
    places = {
        f.key: {level_id(level): i for i, level in enumerate(ordered_levels(study, f))}
        for f in sorted(study.factors, key=lambda f: f.key == DATASET)
    }

    def order(setting: Configuration) -> list[int]:
        values = setting.assignment
        return [of[level_id(values[key])] if key in values else -1 for key, of in places.items()]

    found: dict[str, Configuration] = {}
    own = (setting for setting in study.own if DATASET in setting.assignment)
    for setting in sorted(own, key=order):
        rest = {key: value for key, value in setting.assignment.items() if key != DATASET}
        held = found.get(level_id(rest), Configuration(f"average {len(found)}", rest, ""))
        parts = {**held.parts, level_text(setting.assignment[DATASET]): setting.key}
        found[level_id(rest)] = dataclasses.replace(held, parts=parts)
    return list(found.values())


def one_dataset(study: Study, dataset: str) -> Study:
    """The part of a study that ran on one dataset, with the arms if they ran there."""
    with_arms = dataset == arms_dataset(study)
    settings = [
        dataclasses.replace(s, assignment={k: v for k, v in s.assignment.items() if k != DATASET})
        for s in study.settings
        if (with_arms if s.arm else level_text(s.assignment.get(DATASET)) == dataset)
    ]
    return dataclasses.replace(
        study,
        rows=rows_of(study, [setting.key for setting in settings]),
        factors=beside_dataset(study),
        settings=tuple(settings),
        constants={**study.constants, DATASET: dataset},
        left_out=0,  # counted over all datasets, as are the adopted ones
        adopted={},
        scope=dataset,
    )


def averaged(study: Study, names: Sequence[str] = ()) -> Study | None:
    """Of a study over datasets a row for each method and seed, its average; others as they are.

    Reference arms ran on one dataset and are not in it.

    Args:
        study: as it was read.
        names: of the datasets that an average is over; (): all that the study is over.

    Returns:
        None where no method is wanted on every one of them.
    """
    if not (names := names or datasets(study)):
        return study
    whole = [_on(method, names) for method in methods(study) if {*names} <= {*method.parts}]
    if not whole:
        return None
    rows = [row for method in whole for row in _averages(study, method)]
    others = beside_dataset(study)
    return dataclasses.replace(
        study,
        rows=frame(rows, others, whole, tuple(study.protocol.headings)),
        factors=others,
        settings=tuple(whole),
        scope=f"average over {len(names)} datasets",
        pooled=tuple(names),
    )


def _averages(study: Study, method: Configuration) -> list[dict[str, Any]]:
    """A row for each seed of a method: its average over the datasets of its parts."""
    found: dict[int, dict[str, Mapping[str, Any]]] = {}  # seed -> dataset -> row
    for name, key in method.parts.items():
        for row in study.by_setting[key]:
            found.setdefault(row["seed"], {})[name] = row
    return [_average(study, method, rows) for _, rows in sorted(found.items())]


def _average(
    study: Study, method: Configuration, rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The average of a method's rows of one seed; flags are of trials.

    It counts as finished where every dataset's is; H is that of the mean halves.

    Args:
        study: whose method it is.
        method: on the datasets of its parts.
        rows: dataset -> row.
    """
    own = Group((), [*rows.values()])
    first, states = own.rows[0], own.column("state")
    numbers = [n for n in first if n in _COSTS or n.startswith(("test/", "selection/"))]
    average = {
        **dict.fromkeys(numbers),
        "setting_key": method.key,
        "seed": first["seed"],
        "arm": "",
        "protocol": first["protocol"],
        "selection": chosen_by(own.column("selection")),
        "state": next((state for state in (FAIL, PRUNED) if state in states), MISSING),
    }
    if len(own.done) < len(method.parts):
        failed = {name: row["reason"] for name, row in rows.items() if row["state"] == FAIL}
        reasons = (f"{name}: {reason}" for name, reason in failed.items() if reason)
        return {**average, "reason": next(reasons, None)}
    known = {name: own.known(name) for name in numbers}
    average |= {n: fmean(values) for n, values in known.items() if len(values) == len(rows)}
    for split, (name, halves) in product(("test", "selection"), study.protocol.halves.items()):
        average[f"{split}/{name}"] = _harmonic(*(average.get(f"{split}/{half}") for half in halves))
    return {**average, "state": COMPLETE}


def _harmonic(one: float | None, other: float | None) -> float | None:
    """H of two means, unknown where one of them is.

    Source: the convention of base-to-new tables (CoOp, arXiv:2109.01134): H of the average is
    2BN/(B+N) of the mean B and the mean N, not the mean H.
    """
    if one is None or other is None:
        return None
    return 2 * one * other / (one + other) if one + other > 0 else 0.0


def method_groups(study: Study) -> list[Group]:
    """A group for each method: its averages over the datasets with results, and their parts.

    Of a method without any result the averages, of which there are none, are over all of its own.

    Args:
        study: over several datasets.
    """
    beside = dataclasses.replace(study, factors=beside_dataset(study))
    named = [study.constants.get(f"{part}.name", "") for part in ("finetuner", "generator")]
    alone = " + ".join(name for name in named if name not in ("", "none", "null"))
    found = []
    for method in methods(study):
        labels = labels_of(beside, method.assignment, alone or "constants")
        parts = {name: Group((), study.by_setting[key]) for name, key in method.parts.items()}
        group = Group(labels, (), value=method, parts=parts)
        rows = _averages(study, _on(method, group.present or parts))
        found.append(dataclasses.replace(group, rows=rows))
    return found


def _on(method: Configuration, names: Iterable[str]) -> Configuration:
    """A method on some of its datasets."""
    return dataclasses.replace(method, parts={name: method.parts[name] for name in names})


def on_common(study: Study, group: Group, baseline: Group) -> tuple[Group, Group] | None:
    """A method with the baseline, averaged over the datasets that both have results on.

    Args:
        study: over several datasets.
        group: the method's.
        baseline: another one's.

    Returns:
        None without a dataset in common.
    """
    common = [name for name in group.present if name in baseline.present]
    if not common:
        return None
    if common == group.present == baseline.present:
        return group, baseline

    def part(one: Group) -> Group:
        rows = _averages(study, _on(one.value, common))
        return dataclasses.replace(one, rows=rows, parts={name: one.parts[name] for name in common})

    return part(group), part(baseline)
