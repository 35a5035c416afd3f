"""Parts of a study: without what --path ran, on one dataset, by methods or by their averages."""

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import polars as pl

from reports.cells import level_id, level_text
from reports.contract import APART, COMPLETE, FAIL, MISSING, PRUNED
from reports.read import Factor, Setting, Study, frame
from reports.tables.groups import Group, labels_of, ordered_levels, rows_by_setting, rows_of

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


def without_added(study: Study) -> Study:
    """The study of its own settings, for whatever is about settings as a whole.

    Those that --path ran were chosen by results, and lie between two settings: among the levels of
    a grid, or the draws of a sampler, they would weigh some levels more than others.
    """
    kept = [setting for setting in study.settings if not setting.added]
    aside = len(study.settings) - len(kept)
    return _part(study, kept, aside=aside) if aside else study


def _part(study: Study, settings: Sequence[Setting], **more: Any) -> Study:
    """The study of some of its settings; more: what else is other in it."""
    rows = rows_of(study, [setting.key for setting in settings])
    return dataclasses.replace(study, settings=tuple(settings), rows=rows, **more)


def methods(study: Study) -> list[Setting]:
    """Every combination of the factors beside the dataset, in the order of their levels.

    Each one's parts are in the order of the datasets. A method was added where --path ran it on any
    of them.
    """
    places = {
        f.key: {level_id(level): i for i, level in enumerate(ordered_levels(study, f))}
        for f in sorted(study.factors, key=lambda f: f.key == DATASET)
    }

    def order(setting: Setting) -> list[int]:
        values = setting.assignment
        return [of[level_id(values[key])] if key in values else -1 for key, of in places.items()]

    found: dict[str, Setting] = {}
    own = (setting for setting in study.own if DATASET in setting.assignment)
    for setting in sorted(own, key=order):
        rest = {key: value for key, value in setting.assignment.items() if key != DATASET}
        held = found.get(level_id(rest), Setting(f"average {len(found)}", rest, ""))
        parts = {**held.parts, level_text(setting.assignment[DATASET]): setting.key}
        added = held.added or setting.added
        found[level_id(rest)] = dataclasses.replace(held, parts=parts, added=added)
    return list(found.values())


def one_dataset(study: Study, dataset: str) -> Study:
    """The part of a study that ran on one dataset, with the arms if they ran there."""
    with_arms = dataset == arms_dataset(study)
    settings = [
        dataclasses.replace(s, assignment={k: v for k, v in s.assignment.items() if k != DATASET})
        for s in study.settings
        if (with_arms if s.arm else level_text(s.assignment.get(DATASET)) == dataset)
    ]
    constants = {**study.constants, DATASET: dataset}
    others, counted = beside_dataset(study), {"left_out": 0, "adopted": {}}  # over all datasets
    return _part(study, settings, factors=others, constants=constants, scope=dataset, **counted)


def averaged(study: Study, names: Sequence[str] = ()) -> Study | None:
    """Of a study over datasets a row for each method and seed, its average; others as they are.

    A row counts as finished where every dataset's is; H is that of the mean halves. Reference arms
    ran on one dataset and are not in it.

    Args:
        study: as it was read.
        names: of the datasets that an average is over; (): all that the study is over.

    Returns:
        None where no method is wanted on every one of them.
    """
    if not (names := names or datasets(study)):
        return study
    whole = [_on(method, names) for method in methods(study) if {*names} <= {*method.parts}]
    return _averaged_over(study, whole, names) if whole else None


def _averaged_over(study: Study, whole: Sequence[Setting], names: Sequence[str]) -> Study:
    """The averages of some methods, each over the datasets of its parts; flags are of trials."""
    others = beside_dataset(study)
    places = [(m.key, name, key, len(m.parts)) for m in whole for name, key in m.parts.items()]
    placed = pl.DataFrame(places, ["method", "place", "setting_key", "of"], orient="row")
    rows = placed.join(study.rows, on="setting_key", maintain_order="left")
    state, of = pl.col("state"), pl.col("of").first()
    done = (state == COMPLETE).sum() == of
    failed = pl.concat_str("place", pl.lit(": "), "reason").filter(state == FAIL).first()
    numbers = [n for n in rows.columns if n in _COSTS or n.startswith(("test/", "selection/"))]
    means = [pl.when(done & (pl.count(n) == of)).then(pl.mean(n)).alias(n) for n in numbers]
    averages = rows.group_by(pl.col("method").alias("setting_key"), "seed").agg(
        *means,
        pl.col("protocol").first(),
        pl.lit("").alias("arm"),
        pl.col("selection").drop_nulls().unique().sort().str.join("+"),
        pl.when(~done).then(failed).alias("reason"),
        pl.when(done).then(pl.lit(COMPLETE))
        .when((state == FAIL).any()).then(pl.lit(FAIL))
        .when((state == PRUNED).any()).then(pl.lit(PRUNED))
        .otherwise(pl.lit(MISSING)).alias("state"),
    )  # fmt: skip
    halves = product(("test", "selection"), study.protocol.halves.items())
    averages = averages.with_columns(
        _harmonic(f"{split}/{one}", f"{split}/{other}").alias(f"{split}/{name}")
        for split, (name, (one, other)) in halves
    )
    return dataclasses.replace(
        study,
        rows=frame(averages.to_dicts(), others, whole, tuple(study.protocol.headings)),
        factors=others,
        settings=tuple(whole),
        scope=f"average over {len(names)} datasets",
        pooled=tuple(names),
    )


def _harmonic(one: str, other: str) -> pl.Expr:
    """H of the means in two columns, unknown where one of them is.

    Source: the convention of base-to-new tables (CoOp, arXiv:2109.01134): H of the average is
    2BN/(B+N) of the mean B and the mean N, not the mean H.
    """
    total = pl.col(one) + pl.col(other)
    return pl.when(total > 0).then(2 * pl.col(one) * pl.col(other) / total).otherwise(0 * total)


def method_groups(study: Study, wanted: Sequence[Setting]) -> list[Group]:
    """A group for each method: its averages over the datasets with results, and their parts.

    Of a method without any result the averages, of which there are none, are over all of its own.

    Args:
        study: over several datasets.
        wanted: the methods, each on the datasets of its parts.
    """
    keys = [key for method in wanted for key in method.parts.values()]
    study = dataclasses.replace(study, rows=rows_of(study, keys))
    rows = rows_by_setting(study)
    done = {key for key, own in rows.items() if COMPLETE in own["state"].to_list()}
    finished = [
        _on(one, [name for name, key in one.parts.items() if key in done] or one.parts)
        for one in wanted
    ]
    whole = _averaged_over(study, finished, datasets(study))
    averages = rows_by_setting(whole)
    named = [study.constants.get(f"{part}.name", "") for part in ("finetuner", "generator")]
    alone = " + ".join(name for name in named if name not in ("", "none", "null"))
    return [
        Group(
            labels_of(whole, method.assignment, alone or "constants"),
            averages[setting.key],
            value=setting,
            parts={name: Group((), rows[key]) for name, key in method.parts.items()},
        )
        for setting, method in zip(whole.settings, wanted, strict=True)
    ]


def _on(method: Setting, names: Iterable[str]) -> Setting:
    """A method on some of its datasets."""
    return dataclasses.replace(method, parts={name: method.parts[name] for name in names})


def on_common(study: Study, group: Group, baseline: Group | None) -> tuple[Group, Group] | None:
    """A method with the baseline, averaged over the datasets that both have results on.

    Args:
        study: over several datasets.
        group: the method's, or a reference arm.
        baseline: None: nothing is compared.

    Returns:
        None of the baseline itself, of an arm, and of what has no dataset in common with it.
    """
    if baseline is None or group is baseline or group.arm:
        return None
    common = [name for name in group.present if name in baseline.present]
    if not common:
        return None
    if common == group.present == baseline.present:
        return group, baseline
    mine, theirs = method_groups(study, [_on(one.value, common) for one in (group, baseline)])
    return mine, theirs
