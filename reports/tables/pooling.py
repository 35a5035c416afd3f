"""Parts of a study: without what --path ran, on one dataset, by methods or by their averages."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from reports.contract import APART, COMPLETE, FAIL, MISSING, PRUNED
from reports.read import Factor, Setting, Study, average, frame
from reports.tables.groups import Group, labels_of, ordered_levels, rows_by_setting, rows_of
from reports.tables.model import level_id, level_text

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


def without_added(study: Study) -> Study:
    """The study of its own settings, for whatever is about settings as a whole.

    Those that --path ran were chosen by results, and lie between two settings: among the levels of
    a grid, or the draws of a sampler, they would weigh some levels more than others.
    """
    kept = tuple(setting for setting in study.settings if not setting.added)
    if len(kept) == len(study.settings):
        return study
    keys = [setting.key for setting in kept]
    return dataclasses.replace(
        study,
        settings=kept,
        rows=rows_of(study, keys),
        aside=len(study.settings) - len(kept),
    )


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


def one_dataset(study: Study, dataset: str) -> Study:
    """The part of a study over datasets that ran on one; the reference arms are with their own."""
    with_arms = dataset == arms_dataset(study)
    settings = tuple(
        dataclasses.replace(s, assignment={k: v for k, v in s.assignment.items() if k != DATASET})
        for s in study.settings
        if (with_arms if s.arm else level_text(s.assignment.get(DATASET)) == dataset)
    )
    keys = [setting.key for setting in settings]
    return dataclasses.replace(
        study,
        rows=rows_of(study, keys),
        factors=beside_dataset(study),
        settings=settings,
        constants={**study.constants, DATASET: dataset},
        scope=dataset,
        left_out=0,  # these are counted over all datasets
        adopted={},
    )


def averaged(study: Study) -> Study | None:
    """Of a study over datasets a row for each method and seed, its average; others as they are.

    A row counts as finished where every dataset's is; H is that of the mean halves. Reference arms
    ran on one dataset and are not in it. None where no method is wanted on every dataset.
    """
    if not (names := datasets(study)):
        return study
    whole = [method for method in methods(study) if len(method.keys) == len(names)]
    return _averaged_over(study, whole) if whole else None


def _averaged_over(study: Study, whole: Sequence[Method]) -> Study:
    """The averages of some methods, each over the datasets in its keys."""
    names, others = datasets(study), beside_dataset(study)
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


def method_groups(study: Study, wanted: Sequence[Method]) -> list[Group]:
    """A group for each method: its averages over the datasets with results, and their parts.

    Of a method without any result the averages, of which there are none, are over all of its own.

    Args:
        study: over several datasets.
        wanted: the methods, each on the datasets in its keys.
    """
    keys = [key for method in wanted for key in method.keys.values()]
    study = dataclasses.replace(study, rows=rows_of(study, keys))
    rows = rows_by_setting(study)
    done = {key for key, own in rows.items() if COMPLETE in own["state"].to_list()}
    finished = [
        _on(one, [name for name, key in one.keys.items() if key in done] or one.keys)
        for one in wanted
    ]
    whole = _averaged_over(study, finished)
    averages = rows_by_setting(whole)
    named = [study.constants.get(f"{part}.name", "") for part in ("finetuner", "generator")]
    alone = " + ".join(name for name in named if name not in ("", "none", "null"))
    return [
        Group(
            labels_of(whole, method.assignment, alone or "constants"),
            averages[setting.key],
            value=setting,
            parts={name: Group((), rows[key]) for name, key in method.keys.items()},
        )
        for setting, method in zip(whole.settings, wanted, strict=True)
    ]


def _on(method: Method, names: Iterable[str]) -> Method:
    """A method on some of its datasets."""
    return dataclasses.replace(method, keys={name: method.keys[name] for name in names})


def on_common(
    study: Study, group: Group, baseline: Group | None, of: Mapping[Group, Method]
) -> tuple[Group, Group] | None:
    """A method with the baseline, averaged over the datasets that both have results on.

    Args:
        study: over several datasets.
        group: the method's.
        baseline: None: nothing is compared.
        of: the method of each group; the reference arms have none.

    Returns:
        None of the baseline itself, and of what has no dataset in common with it.
    """
    if baseline is None or group is baseline or group not in of:
        return None
    common = [name for name in group.present if name in baseline.present]
    if not common or common == group.present == baseline.present:
        return (group, baseline) if common else None
    mine, theirs = method_groups(study, [_on(of[one], common) for one in (group, baseline)])
    return mine, theirs
