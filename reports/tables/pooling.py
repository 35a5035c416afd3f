"""A study over several datasets: one at a time, its methods, and their averages."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import polars as pl

from reports.contract import COMPLETE, FAIL, MISSING, PRUNED
from reports.read import Factor, Setting, Study, average, frame
from reports.tables.groups import Group, label, ordered_levels, rows_by_setting, rows_of
from reports.tables.model import Text, level_id, level_text

DATASET = "dataset"
_COSTS = ("seconds", "text_tokens", "peak_memory_mb")


@dataclass(frozen=True)
class Method:
    """One combination of the factors beside the dataset.

    keys: dataset -> setting_key, of the datasets on which the study wants it.
    added: whether --path ran it on any of them.
    """

    assignment: dict[str, Any]
    keys: dict[str, str]
    added: bool = False


def dataset_factor(study: Study) -> Factor | None:
    """The factor `dataset` of a grid study with at least two datasets."""
    for factor in study.factors:
        if factor.key == DATASET and study.sampler == "grid" and len(datasets(study, factor)) > 1:
            return factor
    return None


def datasets(study: Study, factor: Factor) -> list[str]:
    """The datasets of the study in the order of its levels."""
    return [level_text(level) for level in ordered_levels(study, factor)]


def arms_dataset(study: Study, factor: Factor) -> str:
    """The dataset that the reference arms ran on: the factor's baseline, else its first level."""
    named = level_text(factor.baseline)
    return named if named in datasets(study, factor) else datasets(study, factor)[0]


def methods(study: Study) -> list[Method]:
    """Every combination of the other factors, in the order of their levels; so are its datasets."""
    places = {
        f.key: {level_id(level): i for i, level in enumerate(ordered_levels(study, f))}
        for f in sorted(study.factors, key=lambda f: f.key == DATASET)
    }

    def order(setting: Setting) -> list[int]:
        values = setting.assignment
        return [of[level_id(values[key])] if key in values else -1 for key, of in places.items()]

    found: dict[str, Method] = {}
    own = (s for s in study.settings if not s.arm and DATASET in s.assignment)
    for setting in sorted(own, key=order):
        rest = {key: value for key, value in setting.assignment.items() if key != DATASET}
        held = found.get(level_id(rest), Method(rest, {}))
        keys = {**held.keys, level_text(setting.assignment[DATASET]): setting.key}
        found[level_id(rest)] = Method(rest, keys, held.added or setting.added)
    return list(found.values())


def one_dataset(study: Study, factor: Factor, dataset: str) -> Study:
    """The part of a study that ran on one dataset; the reference arms are with their own.

    Args:
        study: over several datasets.
        factor: its factor `dataset`; the part does not have it.
        dataset: a level of it.
    """
    with_arms = dataset == arms_dataset(study, factor)
    settings = tuple(
        dataclasses.replace(s, assignment={k: v for k, v in s.assignment.items() if k != DATASET})
        for s in study.settings
        if (with_arms if s.arm else level_text(s.assignment.get(DATASET)) == dataset)
    )
    keys = [setting.key for setting in settings]
    return dataclasses.replace(
        study,
        rows=study.rows.filter(pl.col("setting_key").is_in(keys)),
        factors=tuple(f for f in study.factors if f != factor),
        settings=settings,
        constants={**study.constants, DATASET: dataset},
        scope=dataset,
    )


def averaged(study: Study, factor: Factor) -> Study | None:
    """The study with a row for each method and seed: its average over all datasets.

    A row counts as finished where every dataset's is; H is that of the mean halves. Reference arms
    ran on one dataset and are not in it. None where no method is wanted on every dataset.
    """
    names = datasets(study, factor)
    whole = [method for method in methods(study) if len(method.keys) == len(names)]
    return averaged_over(study, factor, whole) if whole else None


def averaged_over(study: Study, factor: Factor, whole: Sequence[Method]) -> Study:
    """The study with a row for each method and seed: its average over the method's datasets.

    Args:
        study: over several datasets.
        factor: its factor `dataset`; the result does not have it.
        whole: the methods of the result; each is averaged over the datasets in its keys.
    """
    names = datasets(study, factor)
    rows = {(row["setting_key"], row["seed"]): row for row in study.rows.to_dicts()}
    seeds: dict[str, list[int]] = {}
    for key, seed in rows:
        seeds.setdefault(key, []).append(seed)
    settings = tuple(
        Setting(f"average {i}", m.assignment, "", added=m.added) for i, m in enumerate(whole)
    )
    merged = []
    for setting, method in zip(settings, whole, strict=True):
        for seed in sorted({seed for key in method.keys.values() for seed in seeds[key]}):
            parts = {name: rows.get((key, seed), {}) for name, key in method.keys.items()}
            own = {"setting_key": setting.key, "seed": seed, "arm": ""}
            merged.append({**own, **_merged(parts, study.protocol.halves)})
    others = tuple(f for f in study.factors if f != factor)
    return dataclasses.replace(
        study,
        rows=frame(merged, others, settings, tuple(study.protocol.headings)),
        factors=others,
        settings=settings,
        scope=f"average over {len(names)} datasets",
        pooled=tuple(names),
    )


def _merged(
    of: Mapping[str, Mapping[str, Any]], halves: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """The average of one method and seed over datasets; no flags: those are of trials."""
    parts = list(of.values())
    states = {part.get("state") for part in parts}
    rules = sorted({rule for part in parts if (rule := part.get("selection"))})
    row: dict[str, Any] = {"state": COMPLETE, "selection": "+".join(rules) or None}
    if states != {COMPLETE}:
        failed = [f"{name}: {p.get('reason')}" for name, p in of.items() if p.get("state") == FAIL]
        worst = next((state for state in (FAIL, PRUNED) if state in states), MISSING)
        return {**row, "state": worst, "reason": failed[0] if failed else None}
    row["protocol"] = parts[0].get("protocol")
    of_splits = {
        f"{split}/{name}": (f"{split}/{pair[0]}", f"{split}/{pair[1]}")
        for split in ("test", "selection")
        for name, pair in halves.items()
    }
    for name in parts[0]:
        if name in _COSTS or name.startswith(("test/", "selection/")):
            with suppress(LookupError):  # a dataset has no value of it
                row[name] = average(parts, name, of_splits)
    return row


def method_groups(study: Study, factor: Factor, wanted: Sequence[Method]) -> list[Group]:
    """A group for each method: its averages over the datasets with results, and their parts.

    Of a method without any result the averages, of which there are none, are over all of its own.

    Args:
        study: over several datasets.
        factor: its factor `dataset`.
        wanted: the methods, each on the datasets in its keys.
    """
    keys = [key for method in wanted for key in method.keys.values()]
    study = dataclasses.replace(study, rows=rows_of(study, keys))
    rows = rows_by_setting(study)
    done = {key for key, own in rows.items() if COMPLETE in own["state"].to_list()}
    present = [{n: key for n, key in one.keys.items() if key in done} for one in wanted]
    finished = [
        dataclasses.replace(one, keys=keys or one.keys)
        for one, keys in zip(wanted, present, strict=True)
    ]
    whole = averaged_over(study, factor, finished)
    averages = rows_by_setting(whole)
    named = [study.constants.get(f"{part}.name", "") for part in ("finetuner", "generator")]
    alone = " + ".join(name for name in named if name not in ("", "none", "null"))
    return [
        Group(
            tuple(label(method.assignment.get(f.key)) for f in whole.factors)
            or (Text(alone or "constants"),),
            averages[setting.key],
            value=setting,
            parts={name: Group((), rows[key]) for name, key in method.keys.items()},
        )
        for setting, method in zip(whole.settings, wanted, strict=True)
    ]


def on_common(
    study: Study,
    factor: Factor,
    wanted: Sequence[Method],
    groups: Sequence[Group],
    baseline: Group | None,
) -> list[tuple[Group, Group] | None]:
    """Each method with the baseline, averaged over the datasets that both have results on.

    Args:
        study: over several datasets.
        factor: its factor `dataset`.
        wanted, groups: the methods.
        baseline: one of the groups; None: nothing is compared.

    Returns:
        None of the baseline itself, and of a method without a dataset in common with it.
    """
    pairs: list[tuple[Group, Group] | None] = []
    for method, group in zip(wanted, groups, strict=True):
        common = [name for name in group.present if baseline and name in baseline.present]
        if baseline is None or group is baseline or not common:
            pairs.append(None)
        elif common == group.present == baseline.present:
            pairs.append((group, baseline))
        else:
            both = (method, wanted[groups.index(baseline)])
            cut = [dataclasses.replace(m, keys={n: m.keys[n] for n in common}) for m in both]
            mine, theirs = method_groups(study, factor, cut)
            pairs.append((mine, theirs))
    return pairs
