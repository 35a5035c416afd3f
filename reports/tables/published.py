"""What papers report, beside what the study measured of the same method under the same protocol.

The figures stand in papers.csv. All are of base-to-new generalisation on the eleven datasets of
CoOp, of each dataset or averaged over all of them, in percent. `verified`: whether the figure was
seen in the paper or its log; else it is as reported by others.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from harness.store import Configuration
from reports.cells import Cell, Column, Counts, Quantity, Table, Text, Value, level_text
from reports.stats import Estimate, mean_interval
from reports.study import Study
from reports.tables.groups import Group, short_names
from reports.tables.metric import interval_of
from reports.tables.notes import plain_table
from reports.tables.pooling import averaged

PROTOCOL: Final = "base_to_new"
BACKBONES: Final = ("ViT-B-16-quickgelu:openai", "ViT-B-16:openai")
SHOTS: Final = "16"
AVERAGE_OF_ALL: Final = "average of 11"
_OF_METHOD = ("dataset", "finetuner", "generator", "finetuner.name", "generator.name")
_METRICS = {"base": "Base", "new": "New", "harmonic_mean": "H"}
_OF = (
    f"published figures are of protocol {PROTOCOL}, CLIP's ViT-B/16 with OpenAI's weights"
    f" ({' or '.join(BACKBONES)}), {SHOTS} shots and all classes of a dataset"
)

# (fine-tuner, generator)
Method = tuple[str, str]


@cache
def figures() -> dict[tuple[Method, str], dict[str, str]]:
    """Method, and dataset or AVERAGE_OF_ALL -> the row of papers.csv."""
    text = resources.files("reports.tables").joinpath("papers.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {((row["finetuner"], row["generator"]), row["dataset"]): row for row in rows}


def published_value(figure: Mapping[str, str], metric: str) -> float:
    """A figure's base or new accuracy, or their harmonic mean; of averages, as the papers have it.

    Args:
        figure: see figures.
        metric: a key of it, or harmonic_mean.
    """
    base, new = float(figure["base"]), float(figure["new"])
    return 2 * base * new / (base + new) if metric == "harmonic_mean" else float(figure[metric])


def all_datasets() -> set[str]:
    """The datasets that an average of all is over."""
    return {dataset for _, dataset in figures()} - {AVERAGE_OF_ALL}


class _Beside(NamedTuple):
    """A method on a dataset: in words, its row of papers.csv, and what was measured of it here."""

    setting: str
    figure: Mapping[str, str]
    group: Group

    def values(self, metric: str) -> list[float]:
        """Of a metric, one a seed."""
        return [*self.group.seeds(f"test/{metric}").values()]

    def published(self, metric: str) -> float:
        """The figure of a metric."""
        return published_value(self.figure, metric)

    def difference(self, metric: str) -> Estimate:
        """The mean here less the published figure."""
        theirs = self.published(metric)
        return mean_interval([value - theirs for value in self.values(metric)])


def published_table(study: Study) -> Table:
    """A row for each method and dataset of the study that a paper has figures of.

    A difference is the study's mean less the figure; its interval is over the study's seeds, as a
    figure has none. Where nothing can be compared, there is no row, and a note says so.
    """
    lines = [*_lines(study)]
    columns = [
        Column("setting", "setting", lambda one: Text(one.setting), "left"),
        Column("dataset", "dataset", lambda one: Text(one.figure["dataset"]), "left"),
        Column("n", "n", lambda one: Counts(len(one.values("base")))),
    ]
    for metric, head in _METRICS.items():
        columns += _beside(metric, head)
    columns.append(Column("source", "published by", _source, "left"))
    note = (
        "Δ: the mean here less the published figure, over the seeds here; papers choose epochs and"
        " settings in other ways (SHIP's authors on test pictures)"
        if lines
        else "nothing here can be compared with them"
    )
    title = "published beside measured"
    return plain_table(study, "published", title, columns, lines, [_OF, note], labels=2)


def _beside(metric: str, head: str) -> Iterator[Column]:
    """The columns of a metric: here, in the paper, and their difference."""
    theirs, delta = f"published_{metric}", f"difference_{metric}"
    yield Column(metric, head, lambda one: Value(interval_of(metric, one.values(metric))))
    yield Column(theirs, f"{head} publ.", lambda one: Quantity(one.published(metric), 2))
    yield Column(delta, f"Δ{head}", lambda one: Value(one.difference(metric), signed=True))


def _source(one: _Beside) -> Cell:
    unverified = "" if one.figure["verified"] == "yes" else "; as reported, unverified"
    return Text(f"{one.figure['source']}{unverified}")


def _lines(study: Study) -> Iterator[_Beside]:
    """Each setting that a paper has figures of; then each method that ran on all datasets."""
    pooled = averaged(study, sorted(all_datasets()))
    for part in (study, pooled) if pooled else (study,):
        for setting in part.settings:
            method = _method(part, setting)
            place = AVERAGE_OF_ALL if part.pooled else _value(part, setting, "dataset")
            figure = figures().get((method, place))
            group = Group((), part.by_setting[setting.key])
            if figure and group.done and _is_theirs(part, setting):
                yield _Beside(_label(part, setting, method), figure, group)


def _is_theirs(study: Study, setting: Configuration) -> bool:
    """Whether a setting ran as the published figures did."""
    theirs = {"backbone": BACKBONES, "shots": (SHOTS,), "max_classes": ("null",)}
    same = all(_value(study, setting, key) in values for key, values in theirs.items())
    return same and study.constants.get("protocol", PROTOCOL) == PROTOCOL


def _method(study: Study, setting: Configuration) -> Method:
    """Fine-tuner and generator, as papers.csv names them."""
    finetuner, generator = (
        _value(study, setting, part) or _value(study, setting, f"{part}.name")
        for part in ("finetuner", "generator")
    )
    finetuner = "zero_shot" if setting.arm == "zero_shot" else finetuner
    if finetuner == "zero_shot" or setting.arm == "no_synthetic":
        return finetuner, "none"  # it takes no synthetic features
    return finetuner, setting.arm or generator


def _label(study: Study, setting: Configuration, method: Method) -> str:
    """The method, and what else the study varies."""
    name = method[0] if method[1] == "none" else " + ".join(method)
    names, varied = short_names(study), setting.assignment
    own = [k for k in varied if k not in _OF_METHOD]
    return ", ".join([name, *(f"{names.get(key, key)} {level_text(varied[key])}" for key in own)])


def _value(study: Study, setting: Configuration, key: str) -> str:
    """What a setting has under a key, as MLflow's params have it; "": the study does not say."""
    baselines = {factor.key: factor.baseline for factor in study.factors} if setting.arm else {}
    found = {**study.constants, **baselines, **setting.assignment}.get(key, "")
    if isinstance(found, Mapping):
        return str(found.get("name", ""))
    return found if isinstance(found, str) else json.dumps(found)
