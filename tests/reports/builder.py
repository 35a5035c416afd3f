"""Builds small stores with the schema of the harness, as plain runs or in MLflow."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.store import Run
from reports.study.load import Study, build_study_from_runs

MLFLOW_STATUS = {
    "COMPLETE": "FINISHED",
    "PRUNED": "FINISHED",
    "FAIL": "FAILED",
    "INTERRUPTED": "KILLED",
}


def make_scores(new: float, base: float = 70.0) -> dict[str, float]:
    """Return the six test metrics of base_to_new for a new and a base accuracy."""
    joint_base, joint_new = base - 4, new - 6
    return {
        "base": base,
        "new": new,
        "harmonic_mean": 2 * base * new / (base + new),
        "joint_base": joint_base,
        "joint_new": joint_new,
        "joint_harmonic_mean": 2 * joint_base * joint_new / (joint_base + joint_new),
    }


@dataclass
class StoreBuilder:
    """Builds a study run by run, with the tags, params and metrics that the harness writes.

    Attributes:
        name: Name of the study.
        factors: Factors, as the study's run lists them.
        seeds: Requested seeds.
        sampler: "grid", "random" or "tpe".
        n_trials: Number of configurations of a sampled study.
        state: State of the study's run.
        selection: Selection rule of all runs.
        protocol: Protocol of all runs.
        constants: Params of all runs that differ from the defaults of `add_run`.
        objective: Metric of selection.
        demonstration: Whether the backbone is a demonstration backbone.
        config: Further keys of the study's YAML.
        planned: Planned configurations. None writes no list of them.
        runs: The runs of configurations and controls.
    """

    name: str = "prompt_len"
    factors: Sequence[Mapping[str, Any]] = (
        {"key": "generator.n_ctx", "levels": [1, 2, 4, 8, 16], "log": False, "baseline": 4},
    )
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    sampler: str = "grid"
    n_trials: int | None = None
    state: str = "COMPLETE"
    selection: str = "pseudo_new"
    protocol: str = "base_to_new"
    constants: Mapping[str, str] = field(default_factory=dict)
    objective: str = "harmonic_mean"
    demonstration: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    planned: list[dict[str, Any]] | None = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def add_run(
        self,
        assignment: Mapping[str, Any],
        results: Mapping[int, Mapping[str, float]],
        *,
        control: str = "",
        key: str | None = None,
        state: str = "COMPLETE",
        reason: str = "",
        selected: Mapping[str, float] | None = None,
        flags: Mapping[str, Sequence[int]] | None = None,
        is_planned: bool = True,
        epochs: Sequence[int] | None = None,
        **tags: str,
    ) -> "StoreBuilder":
        """Add a run of a configuration or of a control.

        Args:
            assignment: Level of each factor.
            results: Test metrics by seed.
            control: Name of the control. Empty for a configuration.
            key: Configuration key. Defaults to a text of the control and the assignment.
            state: State of the run. Only COMPLETE runs have the metrics of their seeds.
            reason: Reason for the state.
            selected: Selection metrics of every seed. Defaults to the test metrics minus 3.
            flags: Seeds that raised each flag. The other seeds have 0 for these flags.
            is_planned: Whether the study's plan contains the configuration.
            epochs: Tested epoch of each seed. Defaults to 20, and to 0 for zero-shot.
            tags: Further tags, without their prefix "ship.".

        Returns:
            This builder.
        """
        key = key or _make_key(control, assignment)
        metrics = {
            "trial/seconds": 8.0 * len(results),
            "trial/text_tokens": 1e6 * len(results),
        }
        tested_epochs = epochs or [0 if control == "zero_shot" else 20] * len(results)
        for (seed, values), epoch in zip(results.items(), tested_epochs, strict=True):
            if state != "COMPLETE":
                continue
            if selected is None:
                selection = {name: value - 3.0 for name, value in values.items()}
            else:
                selection = dict(selected)
            raised = {f"flag/{name}": float(seed in s) for name, s in (flags or {}).items()}
            seed_metrics = {f"test/{name}": value for name, value in {**values, **raised}.items()}
            seed_metrics |= {f"selection/{name}": value for name, value in selection.items()}
            seed_metrics["selection_epoch"] = float(epoch)
            metrics |= {f"{name}/seed_{seed}": value for name, value in seed_metrics.items()}
        params = {
            "backbone": "pocket", "dataset": "emoji", "protocol": self.protocol, "shots": "16",
            "max_classes": "null", "finetuner.name": "coop", "generator.name": "vae",
            "targets": "[]", **self.constants,
        }  # fmt: skip
        params |= {name: json.dumps(value).strip('"') for name, value in assignment.items()}
        run_tags = {
            "ship.kind": "trial", "ship.state": state, "ship.config_key": key,
            "ship.control": control,
            "ship.seeds": json.dumps(list(results)), "ship.assignment": json.dumps(assignment),
            "ship.selection": self.selection, "ship.protocol": self.protocol,
            "ship.backbone": "pocket", "ship.dataset": "emoji", "ship.results_version": "1",
            "ship.demonstration": str(self.demonstration).lower(),
        }  # fmt: skip
        run_tags |= {"ship.reason": reason} if reason else {}
        run_tags |= {f"ship.{name}": value for name, value in tags.items()}
        started = 1_000 + len(self.runs)
        self.runs.append(Run(f"run{len(self.runs)}", started, run_tags, params, metrics))
        if is_planned:
            self.add_planned(assignment, control=control, key=key)
        return self

    def add_planned(
        self,
        assignment: Mapping[str, Any],
        *,
        control: str = "",
        key: str | None = None,
    ) -> "StoreBuilder":
        """Add a configuration or a control to the study's plan, whether or not it has a run."""
        key = key or _make_key(control, assignment)
        entry: dict[str, Any] = {
            "config_key": key,
            "assignment": dict(assignment),
            "control": control,
        }
        if self.planned is not None and entry not in self.planned:
            self.planned.append(entry)
        return self

    def make_study_run(self) -> Run:
        """Return the run that describes the study."""
        config = {"name": self.name, "seeds": list(self.seeds), "n_trials": self.n_trials}
        config |= self.config
        tags = {
            "ship.kind": "study", "ship.state": self.state, "ship.sampler": self.sampler,
            "ship.factors": json.dumps(self.factors), "ship.study": json.dumps(config),
            "ship.objective": self.objective,
        }  # fmt: skip
        if self.planned is not None:
            text = json.dumps(self.planned)
            pieces = [text[start : start + 400] for start in range(0, len(text), 400)]
            tags |= {f"ship.planned.{i}" if i else "ship.planned": p for i, p in enumerate(pieces)}
        return Run("parent", 0, tags, {}, {})

    def make_study(self) -> Study:
        """Return the study as reports read it, without a store."""
        return build_study_from_runs(self.name, [self.make_study_run(), *self.runs])

    def write(self, uri: str) -> str:
        """Write the study to an sqlite store, which may contain other studies.

        If the store does not exist, it is copied from a cache, because MLflow is slow.

        Returns:
            The URI of the store.
        """
        file = Path(uri.removeprefix("sqlite:///"))
        runs = [self.make_study_run(), *self.runs]
        if file.exists():
            _write_runs(uri, self.name, runs)
        else:
            file.write_bytes(_make_store_file(self.name, json.dumps([asdict(run) for run in runs])))
        return uri


def _make_key(control: str, assignment: Mapping[str, Any]) -> str:
    """Return a configuration key that is unique within a study."""
    return f"{control}{json.dumps(assignment, sort_keys=True)}"


@cache
def make_empty_store() -> bytes:
    """Return the bytes of an sqlite file with MLflow's schema and no run, which takes seconds."""
    from mlflow.tracking import MlflowClient

    return _write_and_read_back(
        b"", lambda uri: MlflowClient(tracking_uri=uri).search_experiments()
    )


@cache
def _make_store_file(name: str, runs: str) -> bytes:
    """Return the bytes of an sqlite file with a study. Its runs are JSON."""
    built_runs = [Run(**run) for run in json.loads(runs)]
    return _write_and_read_back(make_empty_store(), lambda uri: _write_runs(uri, name, built_runs))


def _write_and_read_back(before: bytes, write: Callable[[str], object]) -> bytes:
    """Return the bytes of an sqlite file after a write to it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mlflow.db"
        file.write_bytes(before)
        write(f"sqlite:///{file}")
        return file.read_bytes()


def _write_runs(uri: str, name: str, runs: Sequence[Run]) -> None:
    """Write the runs of a study to MLflow, starting with the run that describes it."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment(name)
    parent = None
    for run in runs:
        created = client.create_run(experiment, start_time=run.started, run_name=run.run_id)
        tags = run.tags if parent is None else {**run.tags, "mlflow.parentRunId": parent}
        parent = parent or created.info.run_id
        client.log_batch(
            created.info.run_id,
            metrics=[Metric(k, v, run.started, 1) for k, v in run.metrics.items()],
            params=[Param(k, v) for k, v in run.params.items()],
            tags=[RunTag(k, v) for k, v in tags.items()],
        )
        client.set_terminated(
            created.info.run_id, MLFLOW_STATUS.get(run.tags["ship.state"], "RUNNING")
        )


def make_prompt_len(**fields: Any) -> StoreBuilder:
    """Build the packaged study prompt_len: five levels, five seeds and four controls."""
    builder = StoreBuilder(**fields)
    rng = np.random.default_rng(7)
    seed_effects = {seed: float(rng.normal(0, 2)) for seed in builder.seeds}
    for n_ctx, effect in {1: -2.5, 2: -0.8, 4: 0.0, 8: 0.6, 16: -0.4}.items():
        results = {
            seed: make_scores(55 + effect + d + float(rng.normal(0, 0.8)), 70 + d / 3)
            for seed, d in seed_effects.items()
        }
        builder.add_run({"generator.n_ctx": n_ctx}, results)
    builder.add_run(
        {}, {seed: make_scores(52.0, 61.0) for seed in seed_effects}, control="zero_shot"
    )
    levels = {"no_synthetic": 47.0, "text_feature": 54.0, "real_images": 71.0}
    for control, new in levels.items():
        builder.add_run(
            {},
            {seed: make_scores(new + d, 71 + d / 4) for seed, d in seed_effects.items()},
            control=control,
        )
    return builder
