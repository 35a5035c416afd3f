"""What papers report, beside what the study measured of the same method under the same protocol."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reports.read import Setting, Study, average
from reports.stats import mean_interval
from reports.tables.groups import Group, rows_of, short_names
from reports.tables.model import Cell, Column, Counts, Quantity, Row, Table, Text, Value, level_text
from reports.tables.papers import (
    AVERAGE_OF_ALL,
    BACKBONES,
    DATASETS,
    FIGURES,
    PROTOCOL,
    SHOTS,
    Published,
)

PUBLISHED: Final = "published"
_OF_METHOD = ("dataset", "finetuner", "generator", "finetuner.name", "generator.name")
_METRICS = {"base": "Base", "new": "New", "harmonic_mean": "H"}
_OF = (
    f"published figures are of protocol {PROTOCOL}, CLIP's ViT-B/16 with OpenAI's weights"
    f" ({' or '.join(BACKBONES)}), {SHOTS} shots and all classes of a dataset"
)


@dataclass(frozen=True)
class _Measured:
    """A method on a dataset, or averaged over all of them.

    seeds: seed -> metric -> value.
    """

    label: str
    dataset: str
    figure: Published
    seeds: Mapping[int, Mapping[str, float]]


def published_table(study: Study) -> Table:
    """A row for each method and dataset of the study that a paper has figures of.

    A difference is the study's mean less the figure; its interval is over the study's seeds, as a
    figure has none. Where nothing can be compared, there is no row, and a note says why.
    """
    rows = tuple(_row(found) for found in _comparable(study))
    columns = [Column("setting", "setting", "left"), Column("dataset", "dataset", "left")]
    columns.append(Column("n", "n"))
    for metric, heading in _METRICS.items():
        columns += [
            Column(metric, heading),
            Column(f"published_{metric}", f"{heading} publ."),
            Column(f"difference_{metric}", f"Δ{heading}"),
        ]
    columns.append(Column("source", "published by", "left"))
    notes = [_OF]
    if rows:
        notes.append(
            "Δ: the mean here less the published figure, ± over the seeds here; papers choose"
            " epochs and settings in other ways (SHIP's authors on test pictures)"
        )
    else:
        notes.append(f"nothing here can be compared with them: this study has {_said(study)}")
    title = f"{study.name}: published beside measured"
    return Table(PUBLISHED, title, tuple(columns), rows, tuple(notes), labels=2)


def _row(found: _Measured) -> Row:
    cells: dict[str, Cell] = {
        "setting": Text(found.label),
        "dataset": Text(found.dataset),
        "n": Counts(len(found.seeds)),
        "source": Text(found.figure.said),
    }
    for metric in _METRICS:
        figure = float(getattr(found.figure, metric))
        values = [numbers[metric] for numbers in found.seeds.values()]
        cells[metric] = Value(mean_interval(values))
        cells[f"published_{metric}"] = Quantity(figure, 2)
        cells[f"difference_{metric}"] = Value(mean_interval([v - figure for v in values]), True)
    return Row(cells)


def _comparable(study: Study) -> Iterator[_Measured]:
    """Each setting that a paper has figures of; then each that has run on all datasets."""
    everywhere: dict[tuple[str, tuple[str, str]], dict[str, Mapping[int, Mapping[str, float]]]] = {}
    for setting in study.settings:
        method = _method(study, setting)
        if method is None or not _is_theirs(study, setting):
            continue
        dataset, label = _value(study, setting, "dataset"), _label(study, setting, method)
        numbers = _numbers(study, setting)
        if numbers and dataset in FIGURES[method]:
            yield _Measured(label, dataset, FIGURES[method][dataset], numbers)
        if numbers and dataset in DATASETS:
            everywhere.setdefault((label, method), {})[dataset] = numbers
    for (label, method), found in everywhere.items():
        figure = FIGURES[method].get(AVERAGE_OF_ALL)
        seeds = set.intersection(*(set(numbers) for numbers in found.values()))
        if figure is not None and set(found) == set(DATASETS) and seeds:
            means = {
                seed: _averages(study, [one[seed] for one in found.values()]) for seed in seeds
            }
            yield _Measured(label, AVERAGE_OF_ALL, figure, dict(sorted(means.items())))


def _averages(study: Study, numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of Base and New the means, of H that of the means."""
    return {metric: average(numbers, metric, study.protocol.halves) for metric in _METRICS}


def _numbers(study: Study, setting: Setting) -> dict[int, dict[str, float]]:
    """seed -> metric -> value of the seeds that have finished."""
    group = Group((), rows_of(study, [setting.key]))
    by_metric = {metric: group.seeds(f"test/{metric}") for metric in _METRICS}
    seeds = sorted(by_metric["base"])
    return {seed: {m: found[seed] for m, found in by_metric.items()} for seed in seeds}


def _is_theirs(study: Study, setting: Setting) -> bool:
    said = {key: _value(study, setting, key) for key in ("backbone", "shots", "max_classes")}
    return (
        study.constants.get("protocol", PROTOCOL) == PROTOCOL
        and said["backbone"] in BACKBONES
        and said["shots"] == SHOTS
        and said["max_classes"] == "null"
    )


def _method(study: Study, setting: Setting) -> tuple[str, str] | None:
    """Fine-tuner and generator; None: no paper has figures of them."""
    finetuner = _value(study, setting, "finetuner") or _value(study, setting, "finetuner.name")
    generator = _value(study, setting, "generator") or _value(study, setting, "generator.name")
    if setting.arm == "zero_shot":
        finetuner = "zero_shot"
    if setting.arm:
        generator = "none" if setting.arm in ("zero_shot", "no_synthetic") else setting.arm
    if finetuner == "zero_shot":
        generator = "none"  # it takes no synthetic features
    return (finetuner, generator) if (finetuner, generator) in FIGURES else None


def _label(study: Study, setting: Setting, method: tuple[str, str]) -> str:
    """The method, and what else the study varies."""
    name = method[0] if method[1] == "none" else " + ".join(method)
    names, varied = short_names(study), setting.assignment
    own = [k for k in varied if k not in _OF_METHOD]
    return ", ".join([name, *(f"{names.get(key, key)} {level_text(varied[key])}" for key in own)])


def _value(study: Study, setting: Setting, key: str) -> str:
    """What a setting has under a key, as MLflow's params have it; "": the study does not say."""
    if key in setting.assignment:
        return _text(setting.assignment[key])
    factor = next((f for f in study.factors if f.key == key), None)
    if factor is not None and setting.arm:
        return _text(factor.baseline)
    return study.constants.get(key, "")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("name", ""))
    return value if isinstance(value, str) else json.dumps(value)


def _said(study: Study) -> str:
    """What the study has where published figures have one thing."""
    found = []
    for key in ("protocol", "backbone", "dataset", "shots", "max_classes", "finetuner.name"):
        values = dict.fromkeys(_value(study, s, key) for s in study.settings)
        known = [value for value in values if value]
        if known and known != ["null"]:
            found.append(f"{key} {', '.join(known)}")
    return "; ".join(found)
