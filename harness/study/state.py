"""Compare a study with the store: finished work, remaining work, and notes of a dry run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import Any

from harness import planning, store
from harness.config import StudyConfig, load_plugins, load_study, require_list
from harness.errors import ConfigError
from harness.method import MethodFunctions
from harness.planning import Fingerprints, Plan, StaleRows
from harness.resources import get_machine_resources, resolve_resources
from harness.store import RunHistory, RunRecord, Store, StudyStore, control_levels, format_param
from harness.study.extraction import format_extraction
from harness.study.features import iter_planned_configs, make_fingerprints
from harness.study.gpu_cost import format_gpu_cost
from harness.study_files import get_file_label
from harness.wording import count
from ship.architectures import get_text_settings, truncate_texts
from ship.prompt_cost import compute_padding_factor, is_bidirectional
from ship.subsets import select_studied_labels
from ship.templates import fill_template

MAX_PROMPTS = 3  # maximum number of prompts per line of a dry run
# keys that prompts depend on
_PROMPT_KEYS = (
    "backbone", "dataset", "targets", "templates", "finetuner", "max_classes", "unseen_class"
)  # fmt: skip


@dataclass(frozen=True)
class StudyState:
    """State of a study: what is requested, what the store has, and what is left to run.

    Attributes:
        study: Study as its YAML defines it.
        fingerprints: Fingerprints of its data and weights.
        store: Open store. None if the store does not exist yet.
        history: Runs of the study in the store. Empty if there are none.
        plan: Plan of the remaining work.
        retry_before: See `planning.make_plan`.
    """

    study: StudyConfig
    fingerprints: Fingerprints
    store: Store | None
    history: RunHistory
    plan: Plan
    retry_before: int = 0

    def refresh(self) -> "StudyState":
        """Read the study's state from the store again, and return it.

        Raises:
            StoreError: The store cannot be read.
        """
        return read_state(self.study, self.fingerprints, self.store, self.retry_before)

    def find_stale_rows(self) -> StaleRows:
        """Return the finished rows that would leave the report's tables, and the reasons."""
        maker = planning.ConfigurationMaker(self.study, self.fingerprints)
        return planning.find_stale_rows(maker, self.plan, self.history, self.history.study)

    def read_runs_of_other_studies(self) -> list[RunRecord]:
        """Return the COMPLETE runs of other studies for configurations that the plan would run.

        If the study saves trained models, only runs that have saved theirs are returned.

        Raises:
            StoreError: The store cannot be read.
        """
        keys, reader = [work.configuration.key for work in self.plan.work], self.store
        if reader is None or not keys:
            return []
        query = self.study.name, keys
        return reader.read(
            lambda client: store.read_runs_of_other_studies(
                client, *query, trained=self.study.save_models
            )
        )


def read_state(
    study: StudyConfig, fingerprints: Fingerprints, reader: Store | None, retry_before: int = 0
) -> StudyState:
    """Read a study's state from the store.

    Args:
        study: Study as its YAML defines it.
        fingerprints: Fingerprints of its data and weights.
        reader: Open store. None if the store does not exist yet.
        retry_before: See `planning.make_plan`.

    Raises:
        StoreError: The store cannot be read.
    """
    history, experiment_id = RunHistory(), None
    if isinstance(reader, StudyStore):
        experiment_id = reader.experiment_id
    elif reader is not None:
        experiment_id = reader.find_experiment(study.name)
    if reader is not None and experiment_id is not None:
        query = experiment_id, study.objective
        history = reader.read(lambda client: store.read_history(client, *query))
    plan = planning.make_plan(study, history, fingerprints, retry_before)
    return StudyState(study, fingerprints, reader, history, plan, retry_before)


def get_source_name(study: StudyConfig) -> str:
    """Return the name of a study in messages: its YAML file, or "study NAME" without a file."""
    return get_file_label(study.source) if study.source else f"study {study.name}"


def load_plugins_and_study(
    space: str | Path | Mapping[str, Any] | StudyConfig,
    overrides: Sequence[str],
    plugins: Sequence[str | Path],
    data_root: Path | str | None,
) -> StudyConfig:
    """Load plugins, then the study that may use them. The arguments are those of `run_study`.

    Raises:
        UserError: A plugin or the study cannot be loaded.
    """
    overrides = require_list("overrides", overrides, str, "seeds=3")
    plugins = require_list("plugins", plugins, (str, Path), "my_method.py")
    if isinstance(space, StudyConfig) and overrides:
        raise ConfigError([f"overrides cannot be combined with a StudyConfig, got {overrides!r}"])
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
    method: MethodFunctions | None = None,
    details: bool = True,
) -> Plan:
    """Return what `run_study` would do next and how long it would take, without running it.

    The arguments are those of `run_study`, except:

    Args:
        details: Whether to add the time estimate, and notes about the extraction of features and
            about prompts. This takes seconds.

    Returns:
        The plan. ship-sweep --dry-run prints its `rows` (configuration, state, seeds to run),
        `estimate` and `notes`.

    Raises:
        harness.errors.UserError: See `run_study`.
        ValueError: See `run_study`.

    Example:
        >>> plan = plan_study("prompt_len", ["seeds=3"])
        >>> [(row.label, row.state) for row in plan.rows][-1]
        ('n_ctx=1', 'to run')
    """
    study = load_plugins_and_study(space, overrides, plugins, data_root)
    uri = store.resolve_store_uri(tracking_uri)
    fingerprints = make_fingerprints(study, method, data_root, cache_dir)
    retry_before = store.get_time_ms() if retry_non_finite else 0
    state = read_state(study, fingerprints, store.open_existing_store(uri), retry_before)
    notes = state.find_stale_rows().notes(get_source_name(study)) + format_failed_seeds(state)
    complete_runs = state.read_runs_of_other_studies() if reuse else []
    reused = planning.find_reusable_runs(study, state.plan, complete_runs)
    if reused:
        history, plan = planning.plan_after_reuse(
            study, state.history, reused, fingerprints, retry_before
        )
        state = replace(state, history=history, plan=plan)
        notes += planning.format_reuse(reused)
    if study.backbone_defaults:
        notes.append(format_defaults(study))
    plan = state.plan
    if plan.n_proposals and study.controls and control_levels("text_feature", study.space):
        notes.append(
            "controls at the levels of the best configuration will run after the last proposal"
        )
    if details and not plan.finished:
        notes += format_extraction(study, plan, fingerprints)
        notes += format_prompt_costs(study, plan)
        notes += format_prompts(study, plan, fingerprints)
        plan = _add_estimate(state, complete_runs)
        if plan.estimate is None:
            notes += format_gpu_cost(plan, fingerprints)
    return replace(plan, notes=tuple(notes))


def format_failed_seeds(state: StudyState) -> list[str]:
    """Return a line about seeds that failed with a non-finite number, or [] if there are none."""
    rows, history = state.plan.rows, state.history
    seeds_by_row = [{*row.failed} & history.non_finite(row.configuration.key) for row in rows]
    n_seeds, n_configurations = sum(map(len, seeds_by_row)), sum(map(bool, seeds_by_row))
    if not n_seeds:
        return []
    failures = f"{count(n_seeds, 'seed')} of {count(n_configurations, 'configuration')} failed"
    advice = "will be retried" if state.retry_before else "use --retry-non-finite to retry them"
    return [f"{failures} with a non-finite number: {advice}"]


def _add_estimate(state: StudyState, complete_runs: Sequence[RunRecord]) -> Plan:
    """Return the study's plan with an estimate of its time.

    The estimate is None if none is possible yet, see `planning.estimate_time`.

    Args:
        state: State of the study.
        complete_runs: COMPLETE runs of other studies for configurations of the plan.
    """
    study, plan = state.study, state.plan
    history = state.history
    resources = resolve_resources(study.resources, get_machine_resources())
    resolved_study = study.model_copy(update={"resources": resources})
    # Runs of other studies count only for configurations that have no run in this study.
    runs = [*history.runs, *(run for run in complete_runs if run.config_key not in history.by_key)]
    return replace(plan, estimate=planning.estimate_time(resolved_study, plan, runs))


def format_defaults(study: StudyConfig) -> str:
    """Return one line with the defaults that the study's backbone sets for omitted keys."""
    defaults = study.backbone_defaults.items()
    text = ", ".join(f"{key} {format_param(value)}" for key, value in defaults)
    return f"defaults of backbone {study.base.backbone} for keys that the YAML omits: {text}"


def format_prompt_costs(study: StudyConfig, plan: Plan | None) -> list[str]:
    """Return a line for each backbone whose text tower makes learned prompts expensive.

    Args:
        study: Study that the plan is for.
        plan: Plan of the study. None checks the backbones of the whole space.
    """
    backbones = dict.fromkeys(
        config.backbone
        for config in iter_planned_configs(study, plan, _PROMPT_KEYS)
        if hasattr(config.finetuner, "n_ctx") or hasattr(config.generator, "n_ctx")
    )
    names = [name for name in backbones if is_bidirectional(name)]
    factors = [compute_padding_factor(get_text_settings(name).context_length) for name in names]
    return [
        f"the text tower of {name} has no causal mask: a step of CoOp costs about {factor} times "
        "as much as with a causal mask"
        for name, factor in zip(names, factors, strict=True)
    ]


def format_prompts(study: StudyConfig, plan: Plan, fingerprints: Fingerprints) -> list[str]:
    """Return lines with the first prompts of each training and target dataset.

    The prompts are shown as the text tower reads them, i.e. truncated to its context length. There
    is one line per combination of backbone, dataset, templates and classes. Trials whose fine-tuner
    does not read templates are ignored.

    Args:
        study: Study that the plan is for.
        plan: Plan of the study.
        fingerprints: Fingerprints of the study, which load its datasets.
    """
    combinations = dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], None]()
    for config in iter_planned_configs(study, plan, _PROMPT_KEYS):
        if config.finetuner.explain_unused("templates"):
            continue
        for name in (config.dataset, *config.targets):
            dataset = fingerprints.load_dataset(name)
            templates = config.templates_for(name, dataset.template)
            class_names = tuple(dataset.class_names)
            if name == config.dataset:
                labels, _ = select_studied_labels(config, class_names, dataset.n_seen)
                class_names = tuple(class_names[label] for label in labels)
            combinations[config.backbone, name, templates, class_names] = None
    lines = []
    for backbone, name, templates, class_names in combinations:
        # the templates are used in turn
        pairs = zip(class_names[:MAX_PROMPTS], cycle(templates), strict=False)
        texts = [fill_template(template, class_name) for class_name, template in pairs]
        prompts = ", ".join(f'"{text}"' for text in truncate_texts(backbone, texts))
        summary = f"{len(class_names)} class names"
        summary += f", {len(templates)} templates each" if len(templates) > 1 else ""
        lines.append(f"prompts of {name} ({summary}), as {backbone} reads them: {prompts}")
    return lines
