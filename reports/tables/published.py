"""Comparison of a study's results with published ones of the same method and protocol.

The published results are in papers.csv. Each row has the base and new accuracy of a method in
percent, on one of CoOp's eleven datasets or averaged over all of them. `verified` is "yes" if the
numbers were checked against the paper or its training log, and "no" if another source reports them.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

from harness.store import ConfigurationRecord
from reports.cells import Cell, Column, Counts, Quantity, Table, Text, Value, format_level
from reports.stats import Estimate, compute_mean_interval
from reports.study import Study
from reports.tables.annotated_tables import make_plain_table
from reports.tables.group import Group
from reports.tables.groups import shorten_factor_names
from reports.tables.metric import compute_interval
from reports.tables.over_datasets import average_over_datasets

PROTOCOL: Final = "base_to_new"
BACKBONES: Final = ("ViT-B-16-quickgelu:openai", "ViT-B-16:openai")
SHOTS: Final = "16"
AVERAGE_OF_ALL: Final = "average of 11"
# Factors whose levels are not listed in a row, because its method or dataset already shows them.
_SHOWN_KEYS = ("dataset", "finetuner", "generator", "finetuner.name", "generator.name")
_METRICS = {"base": "Base", "new": "New", "harmonic_mean": "H"}
_SETUP_NOTE = (
    f"published results are for protocol {PROTOCOL}, CLIP's ViT-B/16 with OpenAI's weights"
    f" ({' or '.join(BACKBONES)}), {SHOTS} shots and all classes of a dataset"
)

# (fine-tuner, generator), by their names in papers.csv.
Method = tuple[str, str]


@cache
def read_published_results() -> dict[tuple[Method, str], dict[str, str]]:
    """Return the rows of papers.csv by method, and by dataset or AVERAGE_OF_ALL."""
    text = resources.files("reports.tables").joinpath("papers.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {((row["finetuner"], row["generator"]), row["dataset"]): row for row in rows}


def get_published_value(paper_row: Mapping[str, str], metric: str) -> float:
    """Return the base or new accuracy in a row of papers.csv, or the harmonic mean of the two.

    For an average over datasets, this is the harmonic mean of the average accuracies, as in papers.

    Args:
        paper_row: Row of papers.csv; see read_published_results.
        metric: "base", "new" or "harmonic_mean".
    """
    if metric != "harmonic_mean":
        return float(paper_row[metric])
    base, new = float(paper_row["base"]), float(paper_row["new"])
    return 2 * base * new / (base + new)


def list_published_datasets() -> set[str]:
    """Return the datasets of papers.csv: CoOp's eleven datasets."""
    return {dataset for _, dataset in read_published_results()} - {AVERAGE_OF_ALL}


class _Comparison(NamedTuple):
    """A result of this study next to the published result of the same method and dataset.

    Attributes:
        label: The method and the levels of other factors as text.
        paper_row: Row of papers.csv.
        group: Rows of this study.
    """

    label: str
    paper_row: Mapping[str, str]
    group: Group

    def values(self, metric: str) -> list[float]:
        """Return this study's values of a metric, one per seed."""
        return [*self.group.values_by_seed(f"test/{metric}").values()]

    def published_value(self, metric: str) -> float:
        """Return the published value of a metric."""
        return get_published_value(self.paper_row, metric)

    def difference(self, metric: str) -> Estimate:
        """Return this study's mean minus the published value, with an interval over seeds."""
        published = self.published_value(metric)
        return compute_mean_interval([value - published for value in self.values(metric)])


def make_published_table(study: Study) -> Table:
    """Return the table that compares a study's results with published ones.

    There is a row for each finished configuration whose method and dataset are in papers.csv, if it
    has the setup of the published results. A study over all of CoOp's eleven datasets also has rows
    of averages. If there are no rows, a note says so.

    Differences are the study's mean minus the published value. Their intervals are over the study's
    seeds only, because the published values have no intervals.
    """
    comparisons = [*_find_comparisons(study)]
    columns = [
        Column("configuration", "configuration", lambda comparison: Text(comparison.label), "left"),
        Column(
            "dataset", "dataset", lambda comparison: Text(comparison.paper_row["dataset"]), "left"
        ),
        Column("n", "n", lambda comparison: Counts(len(comparison.values("base")))),
    ]
    for metric, heading in _METRICS.items():
        columns += _make_published_columns(metric, heading)
    columns.append(Column("source", "published by", _make_source_cell, "left"))
    note = (
        "Δ: this study's mean minus the published value; its interval is over this study's seeds."
        " Papers select epochs and hyperparameters differently (SHIP's authors on test images)"
        if comparisons
        else "this study has no result that can be compared with them"
    )
    title = "published and measured results"
    return make_plain_table(
        study, "published", title, columns, comparisons, [_SETUP_NOTE, note], n_labels=2
    )


def _make_published_columns(metric: str, heading: str) -> Iterator[Column]:
    """Yield three columns of a metric: this study's mean, the published value, the difference."""
    published_key, difference_key = f"published_{metric}", f"difference_{metric}"
    yield Column(
        metric,
        heading,
        lambda comparison: Value(compute_interval(metric, comparison.values(metric))),
    )
    yield Column(
        published_key,
        f"{heading} publ.",
        lambda comparison: Quantity(comparison.published_value(metric), 2),
    )
    yield Column(
        difference_key,
        f"Δ{heading}",
        lambda comparison: Value(comparison.difference(metric), signed=True),
    )


def _make_source_cell(comparison: _Comparison) -> Cell:
    """Return the cell that names the source of a published result."""
    unverified = (
        "" if comparison.paper_row["verified"] == "yes" else "; reported elsewhere, not checked"
    )
    return Text(f"{comparison.paper_row['source']}{unverified}")


def _find_comparisons(study: Study) -> Iterator[_Comparison]:
    """Yield a comparison per configuration with a published result, then those of averages."""
    averages = average_over_datasets(study, sorted(list_published_datasets()))
    studies = [study] if averages is None else [study, averages]
    for study_or_averages in studies:
        for configuration in study_or_averages.configurations:
            method = _get_method_names(study_or_averages, configuration)
            dataset = (
                AVERAGE_OF_ALL
                if study_or_averages.pooled_datasets
                else _format_option(study_or_averages, configuration, "dataset")
            )
            paper_row = read_published_results().get((method, dataset))
            group = Group((), study_or_averages.by_configuration[configuration.key])
            if not paper_row or not group.finished_rows:
                continue
            if _has_published_setup(study_or_averages, configuration):
                yield _Comparison(
                    _format_method(study_or_averages, configuration, method), paper_row, group
                )


def _has_published_setup(study: Study, configuration: ConfigurationRecord) -> bool:
    """Return True if a configuration ran with the setup of the published results (_SETUP_NOTE)."""
    setup = {
        "protocol": (PROTOCOL,),
        "backbone": BACKBONES,
        "shots": (SHOTS,),
        "max_classes": ("null",),
    }
    return all(_format_option(study, configuration, key) in values for key, values in setup.items())


def _get_method_names(study: Study, configuration: ConfigurationRecord) -> Method:
    """Return the fine-tuner and the generator of a configuration by their names in papers.csv."""
    finetuner, generator = (
        _format_option(study, configuration, part)
        or _format_option(study, configuration, f"{part}.name")
        for part in ("finetuner", "generator")
    )
    finetuner = "zero_shot" if configuration.control == "zero_shot" else finetuner
    if finetuner == "zero_shot" or configuration.control == "no_synthetic":
        return finetuner, "none"  # no synthetic features
    # the other controls replace the generator
    return finetuner, configuration.control or generator


def _format_method(study: Study, configuration: ConfigurationRecord, method: Method) -> str:
    """Return the method and the levels of the other factors as text."""
    name = method[0] if method[1] == "none" else " + ".join(method)
    names, assignment = shorten_factor_names(study), configuration.assignment
    keys = [key for key in assignment if key not in _SHOWN_KEYS]
    return ", ".join(
        [name, *(f"{names.get(key, key)} {format_level(assignment[key])}" for key in keys)]
    )


def _format_option(study: Study, configuration: ConfigurationRecord, key: str) -> str:
    """Return a configuration's value of an option as text; "" if it is unknown.

    A string is returned as it is. If the value is the mapping of a method's options, the method's
    name is returned. Other values are returned as JSON. If a factor is missing from the assignment
    of a control, the control has the factor's baseline level.
    """
    baselines = (
        {factor.key: factor.baseline for factor in study.factors} if configuration.control else {}
    )
    value = {**study.constants, **baselines, **configuration.assignment}.get(key, "")
    if isinstance(value, Mapping):
        return str(value.get("name", ""))
    return value if isinstance(value, str) else json.dumps(value)
