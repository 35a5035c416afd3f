"""Pairs of matching configurations in two studies, and the reasons why studies cannot be paired."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.store import (
    COMPETING,
    DEFAULT_PROTOCOL,
    ConfigurationRecord,
    FactorRecord,
    Tag,
    control_levels,
    make_level_id,
)
from harness.wording import count
from reports.formatting import join_names
from reports.study import Provenance, Study
from reports.tables.groups import Group, make_control_groups, make_label_cells, sort_levels

MIN_COMMON_SEEDS = 2
# Options that determine which images and classes are sampled under a seed.
_DRAW = ("shots", "max_classes", "unseen_class", "targets")
_ABSENT = "absent"  # value of an option that a run does not have
# Options that older runs of the same results version lack -> their value in these runs.
_ADDED = {"metrics": "[]"}


@dataclass(frozen=True, eq=False)
class Pair:
    """The same configuration or control in two studies A and B.

    Attributes:
        first: The group of study A.
        second: The group of study B.
    """

    first: Group
    second: Group

    @property
    def control(self) -> str:
        """Name of the control; "" for a configuration."""
        return self.first.control

    @property
    def keys(self) -> tuple[str, str]:
        """The config_key of the group in A, and that in B."""
        return self.first.rows[0]["config_key"], self.second.rows[0]["config_key"]

    def common_seeds(self, column: str) -> list[int]:
        """Return the seeds under which both groups have a value in a column, in ascending order."""
        return sorted(
            self.first.values_by_seed(column).keys() & self.second.values_by_seed(column).keys()
        )


def get_shared_factors(first: Study, second: Study) -> tuple[FactorRecord, ...]:
    """Return the factors that both studies have, with the levels and baselines of the first."""
    keys = {factor.key for factor in second.factors}
    return tuple(factor for factor in first.factors if factor.key in keys)


def pair_configurations(first: Study, second: Study) -> list[Pair]:
    """Pair the configurations and the controls of two studies.

    Two configurations form a pair if they have the same levels of the factors that both studies
    have, and are at the baselines of all other factors.

    Args:
        first: Study A.
        second: Study B.

    Returns:
        The pairs of configurations in the order of their levels, then those of controls.
    """
    factors = get_shared_factors(first, second)
    labeled_study = dataclasses.replace(first, factors=factors)
    keys = [factor.key for factor in factors]
    configurations_b = _map_configurations_by_levels(second, keys)
    pairs = []
    for levels, configuration_a in _map_configurations_by_levels(first, keys).items():
        if levels in configurations_b:
            labels = make_label_cells(labeled_study, configuration_a.assignment, "baseline")
            sides = ((first, configuration_a), (second, configurations_b[levels]))
            groups = (
                Group(labels, study.by_configuration[configuration.key], value=configuration)
                for study, configuration in sides
            )
            pairs.append(Pair(*groups))
    positions_by_factor = {
        factor.key: {make_level_id(level): i for i, level in enumerate(sort_levels(first, factor))}
        for factor in factors
    }

    def sort_key(pair: Pair) -> list[int]:
        levels = pair.first.value.assignment
        return [
            positions[make_level_id(levels[key])] if key in levels else -1
            for key, positions in positions_by_factor.items()
        ]

    return [*sorted(pairs, key=sort_key), *_pair_controls(first, second)]


def _map_configurations_by_levels(
    study: Study, shared_keys: Sequence[str]
) -> dict[str, ConfigurationRecord]:
    """Return a study's configurations by their levels of the shared factors, as JSON.

    Configurations in which any other factor is not at its baseline are left out.
    """
    baselines = {factor.key: make_level_id(factor.baseline) for factor in study.factors}
    configurations: dict[str, ConfigurationRecord] = {}
    for configuration in study.non_controls:
        levels = {key: make_level_id(level) for key, level in configuration.assignment.items()}
        if all(levels[key] == baselines[key] for key in levels.keys() - {*shared_keys}):
            shared_levels = {key: levels[key] for key in shared_keys if key in levels}
            configurations.setdefault(json.dumps(shared_levels), configuration)
    return configurations


def _pair_controls(first: Study, second: Study) -> Iterator[Pair]:
    """Yield a pair for each control that both studies ran at the same levels of shared factors."""
    groups_b = {group.control: group for group in make_control_groups(second)}
    for group_a in make_control_groups(first):
        levels = [
            _get_baseline_levels(study, group_a.control, get_shared_factors(first, second))
            for study in (first, second)
        ]
        if group_a.control in groups_b and levels[0] == levels[1]:
            yield Pair(group_a, groups_b[group_a.control])


def _get_baseline_levels(
    study: Study, control: str, factors: Iterable[FactorRecord]
) -> dict[str, str]:
    """Return a study's baseline levels (see make_level_id) of those factors that affect a control.

    Competing controls ignore some factors. The other controls are taken to depend on all of them.

    Args:
        study: The study.
        control: Name of the control.
        factors: Factors to include.
    """
    keys = {factor.key for factor in factors}
    levels = {factor.key: factor.baseline for factor in study.factors if factor.key in keys}
    if control in COMPETING:
        levels = control_levels(control, levels)
    return {key: make_level_id(level) for key, level in levels.items()}


def _describe_dataset(run: Provenance) -> str:
    return _name_with_fingerprint(run, Tag.DATASET, Tag.DATASET_FINGERPRINT)


def _describe_backbone(run: Provenance) -> str:
    return _name_with_fingerprint(run, Tag.BACKBONE, Tag.BACKBONE_FINGERPRINT)


def _name_with_fingerprint(run: Provenance, name_tag: str, fingerprint_tag: str) -> str:
    """Return the name and the fingerprint in two tags of a run; "" without a fingerprint."""
    fingerprint = run.tags.get(fingerprint_tag, "")
    if not fingerprint:
        return ""
    return f"{run.tags.get(name_tag, '')} (fingerprint {fingerprint[:12]})"


# Properties that must be the same in both studies -> function that returns a run's property as
# text, or "" if the run does not have it.
_IDENTITY: Mapping[str, Callable[[Provenance], str]] = {
    "dataset": _describe_dataset,
    "split version": lambda run: run.tags.get(Tag.SPLIT_VERSION) or "none",
    "backbone": _describe_backbone,
    "protocol": lambda run: run.tags.get(Tag.PROTOCOL, DEFAULT_PROTOCOL),
    "results version": lambda run: run.tags.get(Tag.RESULTS_VERSION, ""),
}


def find_pairing_faults(
    first: Study, second: Study, pairs: Sequence[Pair], metric: str
) -> list[str]:
    """Return all reasons why two studies cannot be compared seed by seed; [] if they can.

    Args:
        first: Study A.
        second: Study B.
        pairs: Pairs of the two studies; see pair_configurations.
        metric: Test metric to compare.
    """
    faults = []
    provenances = list_provenance_pairs(first, second, pairs)
    if all(pair.control for pair in pairs):
        faults.append(_format_no_pair_fault(first, second))
    for name, describe in _IDENTITY.items():
        values = [(describe(run_a), describe(run_b)) for run_a, run_b in provenances]
        faults += _find_identity_faults(name, values)
    for key in _DRAW:
        values = [
            (_format_param(run_a, key), _format_param(run_b, key)) for run_a, run_b in provenances
        ]
        faults += _find_identity_faults(key, values)
    n_common = max((len(pair.common_seeds(f"test/{metric}")) for pair in pairs), default=0)
    if n_common < MIN_COMMON_SEEDS:
        seeds_a, seeds_b = _format_seeds(first, metric), _format_seeds(second, metric)
        faults.append(
            f"at least {MIN_COMMON_SEEDS} common seeds are needed, got {n_common} (finished seeds:"
            f" {seeds_a} in A, {seeds_b} in B)"
        )
    return faults


def list_provenance_pairs(
    first: Study, second: Study, pairs: Sequence[Pair]
) -> list[tuple[Provenance, Provenance]]:
    """Return the provenance of both sides of each pair of configurations.

    Controls, and configurations without runs, are left out. If no pair is left, the provenances of
    the first configurations with runs in A and B are returned instead, if both exist.
    """
    keys = [pair.keys for pair in pairs if not pair.control]
    runs_a, runs_b = first.provenance, second.provenance
    pairs_of_runs = [(runs_a[a], runs_b[b]) for a, b in keys if a in runs_a and b in runs_b]
    return pairs_of_runs or [*zip(runs_a.values(), runs_b.values(), strict=False)][:1]


def _find_identity_faults(name: str, values: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield a fault if a property is unknown, or differs between the sides of any pair.

    Args:
        name: Name of the property.
        values: The property's value in A and in B, for each pair. "" is unknown.
    """
    # a dict instead of a set, to keep the order
    unequal = {pair: None for pair in values if pair[0] != pair[1] or not all(pair)}
    if unequal and len(unequal) == len({*values}):
        value_a, value_b = (
            join_names(list(dict.fromkeys(pair[side] or "unknown" for pair in unequal)))
            for side in (0, 1)
        )
        yield f"{name} is {value_a} in A and {value_b} in B"
    elif unequal:
        (value_a, value_b), *_ = unequal
        yield (
            f"{name} is {value_a or 'unknown'} in A and {value_b or 'unknown'} in B for some levels"
        )


def _format_no_pair_fault(first: Study, second: Study) -> str:
    """Return the fault of two studies without a pair of configurations."""
    factors = [
        join_names([factor.key for factor in study.factors]) or "no factor"
        for study in (first, second)
    ]
    return (
        "no configuration of A has the same levels in B (the factors are"
        f" {factors[0]} in A and {factors[1]} in B; factors of only one study must be at their"
        " baseline)"
    )


def _format_seeds(study: Study, metric: str) -> str:
    """Return the seeds under which any configuration has a metric as text, e.g. "0, 1, 2"."""
    column = f"test/{metric}"
    if column not in study.rows.columns:
        return "none"
    seeds = study.rows.drop_nulls(column)["seed"].unique().sort().to_list()
    return join_names([str(seed) for seed in seeds], ", ") or "none"


def _format_param(run: Provenance, key: str) -> str:
    """Return a run's value of an option as text; _ABSENT if it has none."""
    return run.params.get(key, _ADDED.get(key, _ABSENT))


def find_differing_options(provenances: Sequence[tuple[Provenance, Provenance]]) -> dict[str, str]:
    """Return the options that differ between the two sides of any pair.

    Args:
        provenances: Provenance of both sides of each pair.

    Returns:
        Option's dotted name -> its values as text, such as "0.1 in A, 1.0 in B". Names of methods
        are first. The last key is "plugins" if the plugins differ.
    """
    names = dict.fromkeys(key for pair in provenances for run in pair for key in run.params)
    # the name of a method is stored as `generator` and as `generator.name`
    names = {key: None for key in names if f"{key}.name" not in names}
    texts: dict[str, str] = {}
    for key in sorted(names, key=lambda key: not key.endswith(".name")):
        values = [
            (_format_param(run_a, key), _format_param(run_b, key)) for run_a, run_b in provenances
        ]
        unequal = dict.fromkeys((a, b) for a, b in values if a != b)
        if not unequal:
            continue
        texts[key] = "; ".join(f"{a} in A, {b} in B" for a, b in [*unequal][:2])
        n_unequal = sum(a != b for a, b in values)
        if n_unequal < len(values) or len(unequal) > 1:
            texts[key] += f" (differs in {n_unequal} of {count(len(values), 'configuration')})"
    plugins = {
        (a.tags.get(Tag.PLUGINS, "none"), b.tags.get(Tag.PLUGINS, "none")) for a, b in provenances
    }
    if unequal_plugins := [f"{a} in A, {b} in B" for a, b in sorted(plugins) if a != b]:
        texts["plugins"] = "; ".join(unequal_plugins)
    return texts
