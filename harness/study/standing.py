"""A study as it stands: what the store has of it, what is left, and what a run of it would do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from harness import planning, store
from harness.config import StudyConfig, listed, load_plugins, load_study
from harness.errors import ConfigError
from harness.method import Method
from harness.planning import Fingerprints, Plan, TableChanges
from harness.resources import machine_resources, resolved_resources
from harness.store import (
    RunHistory,
    RunRecord,
    Store,
    StudyRecord,
    StudyStore,
    control_levels,
    param_text,
)
from harness.study.extraction import extraction_lines
from harness.study.features import configs_of, fingerprints_of
from harness.study_files import file_label
from harness.wording import count
from ship.architectures import as_read
from ship.templates import sentence

SHOWN = 3  # prompts of a dataset
_DECIDING = ("backbone", "dataset", "targets", "templates", "finetuner")  # what is in a prompt


@dataclass(frozen=True)
class Standing:
    """A study as it stands.

    study, fingerprints: what is wanted, of which data and weights.
    store: an open store; None: there is none.
    ledger, stored: what the store has of the study, and what it says that the study is.
    plan: what is left.
    retry_before: see make_plan.
    """

    study: StudyConfig
    fingerprints: Fingerprints
    store: Store | None
    ledger: RunHistory
    stored: StudyRecord
    plan: Plan
    retry_before: int = 0

    def again(self) -> "Standing":
        """As it stands now.

        Raises:
            StoreError: the store cannot be read.
        """
        return read_standing(self.study, self.fingerprints, self.store, self.retry_before)

    def changes(self) -> TableChanges:
        """Which finished rows would leave the table, and why."""
        maker = planning.SettingMaker(self.study, self.fingerprints)
        return planning.compare(maker, self.plan, self.ledger, self.stored)

    def elsewhere(self) -> list[RunRecord]:
        """What other studies of the store know of the settings that the plan would run.

        Raises:
            StoreError: the store cannot be read.
        """
        keys, opened = [work.setting.key for work in self.plan.work], self.store
        if opened is None or not keys:
            return []
        name, trained = self.study.name, self.study.save
        return opened.read(lambda client: store.read_finished(client, name, keys, trained=trained))


def read_standing(
    study: StudyConfig, fingerprints: Fingerprints, opened: Store | None, retry_before: int = 0
) -> Standing:
    """A study as it stands in an open store, or without one: see Standing.

    Raises:
        StoreError: the store cannot be read.
    """
    ledger, stored, own = RunHistory(), StudyRecord(), None
    if isinstance(opened, StudyStore):
        own = opened.experiment_id
    elif opened is not None:
        own = opened.experiment(study.name)
    if opened is not None and own is not None:
        stored = store.read_study_record(opened, own)
        asked = own, study.objective
        ledger = opened.read(lambda client: store.read_history(client, *asked))
    plan = planning.make_plan(study, ledger, fingerprints, retry_before)
    return Standing(study, fingerprints, opened, ledger, stored, plan, retry_before)


def source_of(study: StudyConfig) -> str:
    """What messages call the study's YAML."""
    return file_label(study.source) if study.source else f"study {study.name}"


def typed_study(
    space: str | Path | Mapping[str, Any] | StudyConfig,
    overrides: Sequence[str],
    plugins: Sequence[str | Path],
    data_root: Path | str | None,
) -> StudyConfig:
    """The study, read with the plugins that it may name.

    Args: see run_study.
    """
    overrides = listed("overrides", overrides, str, "seeds=3")
    plugins = listed("plugins", plugins, (str, Path), "my_method.py")
    if isinstance(space, StudyConfig) and overrides:
        raise ConfigError([f"overrides must be left out beside a study, got {overrides!r}"])
    load_plugins(plugins)
    if isinstance(space, StudyConfig):
        return space
    return load_study(space, overrides, None if data_root is None else Path(data_root))


def plan_study(
    space: str | Path | Mapping[str, Any] | StudyConfig,
    overrides: Sequence[str] = (),
    *,
    plugins: Sequence[str | Path] = (),
    data_root: Path | str | None = None,
    cache_dir: Path | str | None = None,
    tracking_uri: str | None = None,
    reuse: bool = True,
    retry_non_finite: bool = False,
    method: Method | None = None,
    details: bool = True,
) -> Plan:
    """What run_study would do next, and how long that would take on this machine; runs nothing.

    Args:
        space, overrides, plugins, data_root, cache_dir, tracking_uri, method: see run_study.
        reuse, retry_non_finite: see run_study.
        details: Add the estimate, and notes on extraction and prompts. It takes seconds.

    Returns:
        The plan: `rows` (setting, state, seeds that would run), `finished`, `estimate` and `notes`,
        as ship-sweep --dry-run prints them.

    Raises:
        harness.errors.UserError, ValueError: see run_study.
    """
    study = typed_study(space, overrides, plugins, data_root)
    uri = store.store_uri(tracking_uri)
    prints = fingerprints_of(study, method, data_root, cache_dir)
    retry_before = store.now() if retry_non_finite else 0
    standing = read_standing(study, prints, store.find_store(uri), retry_before)
    notes = standing.changes().notes(source_of(study)) + failed_lines(standing)
    known = standing.elsewhere() if reuse else []
    found = planning.adoptions(study, standing.plan, known)
    if found:
        ledger, plan = planning.once_adopted(study, standing.ledger, found, prints, retry_before)
        standing = replace(standing, ledger=ledger, plan=plan)
        notes += planning.adoption_lines(found)
    if study.backbone_defaults:
        notes.append(defaults_line(study))
    plan = standing.plan
    if plan.proposals and study.reference_arms and control_levels("text_feature", study.space):
        notes.append("controls at the levels of the best setting run after the last proposal")
    if details and not plan.finished:
        notes += extraction_lines(study, plan, prints)
        notes += prompt_lines(study, plan, prints)
        plan = _with_time(standing, known)
    return replace(plan, notes=tuple(notes))


def failed_lines(standing: Standing) -> list[str]:
    """Return what a dry run says of seeds that failed as their numbers were not finite."""
    rows, ledger = standing.plan.rows, standing.ledger
    lost = [{*row.failed} & ledger.non_finite(row.setting.key) for row in rows]
    seeds, settings = sum(map(len, lost)), sum(map(bool, lost))
    if not seeds:
        return []
    failed = f"{count(seeds, 'seed')} of {count(settings, 'setting')} failed, a number not finite"
    way_on = "run again" if standing.retry_before else "--retry-non-finite runs them again"
    return [f"{failed}: {way_on}"]


def _with_time(standing: Standing, known: Sequence[RunRecord]) -> Plan:
    """Return a study's plan with an estimate of its time if trials have finished.

    Args:
        known: what other studies know of settings that lack seeds.
    """
    study, plan = standing.study, standing.plan
    ledger = standing.ledger
    resources = resolved_resources(study.resources, machine_resources())
    resolved = study.model_copy(update={"resources": resources})
    # of a setting that has seconds of its own, no others count
    runs = [*ledger.runs, *(one for one in known if one.setting_key not in ledger.by_key)]
    return replace(plan, estimate=planning.estimate_time(resolved, plan, runs))


def defaults_line(study: StudyConfig) -> str:
    """Return one line with every default that a study has from its backbone."""
    defaults = study.backbone_defaults.items()
    listed = ", ".join(f"{key} {param_text(value)}" for key, value in defaults)
    return f"defaults of backbone {study.trial.backbone} (keys that the YAML leaves out): {listed}"


def prompt_lines(study: StudyConfig, plan: Plan, prints: Fingerprints) -> list[str]:
    """Three prompts of each dataset that is to be trained on or tested, as CLIP reads them.

    A line for each backbone, dataset and templates; none where a method has its own sentences.
    """
    wanted = dict.fromkeys(
        (config.backbone, name, config.templates_for(name, prints.pictures(name).template))
        for config in configs_of(study, plan, _DECIDING)
        if not config.finetuner.unread_reason("templates")
        for name in (config.dataset, *config.targets)
    )
    lines = []
    for backbone, name, templates in wanted:
        class_names = prints.pictures(name).class_names
        shown = zip(class_names[:SHOWN], cycle(templates), strict=False)  # templates take turns
        texts = [sentence(template, class_name) for class_name, template in shown]
        read = ", ".join(f'"{text}"' for text in as_read(backbone, texts))
        many = f"{len(class_names)} class names"
        many += f", {len(templates)} templates each" if len(templates) > 1 else ""
        lines.append(f"prompts of {name} ({many}), as {backbone} reads them: {read}")
    return lines
