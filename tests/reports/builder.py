"""A small store that holds exactly what the harness writes: as plain runs, or in real MLflow."""

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

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED", "INTERRUPTED": "KILLED"}


def scores(new: float, base: float = 70.0) -> dict[str, float]:
    """The six percentages that belong to a base and a new accuracy."""
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
    """Builds a study run by run, following the MLflow schema."""

    name: str = "prompt_len"
    factors: Sequence[Mapping[str, Any]] = (
        {"key": "generator.n_ctx", "levels": [1, 2, 4, 8, 16], "log": False, "baseline": 4},
    )
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    sampler: str = "grid"
    n_trials: int | None = None
    ended: str = "COMPLETE"
    selection: str = "pseudo_new"
    protocol: str = "base_to_new"
    constants: Mapping[str, str] = field(default_factory=dict)
    objective: str = "harmonic_mean"
    demonstration: bool = True
    config: Mapping[str, Any] = field(default_factory=dict)
    wanted: list[dict[str, Any]] | None = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def trial(
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
        want: bool = True,
        epochs: Sequence[int] | None = None,
        **tags: str,
    ) -> "StoreBuilder":
        """Add one run: `results` is seed -> test metrics; key defaults to arm and assignment.

        selected: the selection metrics of every seed; None: the test's, each 3 lower.
        flags: flag -> the seeds that raised it; the flags named have a 0 for the other seeds.
        epochs: The tested epoch of each seed. Defaults to 20, and to 0 for zero-shot.
        """
        key = key or f"{control}{json.dumps(assignment, sort_keys=True)}"
        metrics = {"trial/seconds": 8.0 * len(results), "trial/text_tokens": 1e6 * len(results)}
        tested_epochs = epochs or [0 if control == "zero_shot" else 20] * len(results)
        for (seed, values), epoch in zip(results.items(), tested_epochs, strict=True):
            lower = {name: value - 3.0 for name, value in values.items()}
            names = lower if selected is None else selected
            chosen = {f"selection/{name}": value for name, value in names.items()}
            raised = {f"flag/{name}": float(seed in s) for name, s in (flags or {}).items()}
            tested = {f"test/{name}": value for name, value in {**values, **raised}.items()}
            seed_metrics = (
                {**tested, **chosen, "selection_epoch": float(epoch)} if state == "COMPLETE" else {}
            )
            metrics |= {f"{name}/seed_{seed}": value for name, value in seed_metrics.items()}
        params = {
            "backbone": "pocket", "dataset": "emoji", "protocol": self.protocol, "shots": "16",
            "max_classes": "null", "finetuner.name": "coop", "generator.name": "vae",
            "targets": "[]", **self.constants,
        }  # fmt: skip
        params |= {name: json.dumps(value).strip('"') for name, value in assignment.items()}
        written = {
            "ship.kind": "trial", "ship.state": state, "ship.config_key": key,
            "ship.control": control,
            "ship.seeds": json.dumps(list(results)), "ship.assignment": json.dumps(assignment),
            "ship.selection": self.selection, "ship.protocol": self.protocol,
            "ship.backbone": "pocket", "ship.dataset": "emoji", "ship.results_version": "1",
            "ship.demonstration": str(self.demonstration).lower(),
        }  # fmt: skip
        written |= {"ship.reason": reason} if reason else {}
        written |= {f"ship.{name}": value for name, value in tags.items()}
        started = 1_000 + len(self.runs)
        self.runs.append(Run(f"run{len(self.runs)}", started, written, params, metrics))
        if want:
            self.want(assignment, control=control, key=key)
        return self

    def want(
        self,
        assignment: Mapping[str, Any],
        *,
        control: str = "",
        key: str | None = None,
    ) -> "StoreBuilder":
        """List a setting as wanted, run or not."""
        key = key or f"{control}{json.dumps(assignment, sort_keys=True)}"
        entry: dict[str, Any] = {
            "config_key": key,
            "assignment": dict(assignment),
            "control": control,
        }
        if self.wanted is not None and entry not in self.wanted:
            self.wanted.append(entry)
        return self

    def parent(self) -> Run:
        """The study's own run."""
        config = {"name": self.name, "seeds": list(self.seeds), "n_trials": self.n_trials}
        config |= self.config
        tags = {
            "ship.kind": "study", "ship.state": self.ended, "ship.sampler": self.sampler,
            "ship.factors": json.dumps(self.factors), "ship.study": json.dumps(config),
            "ship.objective": self.objective,
        }  # fmt: skip
        if self.wanted is not None:
            text = json.dumps(self.wanted)
            pieces = [text[at : at + 400] for at in range(0, len(text), 400)]
            tags |= {f"ship.planned.{i}" if i else "ship.planned": p for i, p in enumerate(pieces)}
        return Run("parent", 0, tags, {}, {})

    def study(self) -> Study:
        """The study as the reports read it, without MLflow between."""
        return build_study_from_runs(self.name, [self.parent(), *self.runs])

    def write(self, uri: str) -> str:
        """Write everything to the sqlite store at `uri`, which may hold other studies; return it.

        A new store is a copy of the one that the first test of this session wrote of the same runs.
        """
        file, runs = Path(uri.removeprefix("sqlite:///")), [self.parent(), *self.runs]
        if file.exists():
            _write(uri, self.name, runs)
        else:
            file.write_bytes(_written(self.name, json.dumps([asdict(run) for run in runs])))
        return uri


@cache
def empty_store() -> bytes:
    """An sqlite file with MLflow's schema alone, which takes seconds to make."""
    from mlflow.tracking import MlflowClient

    return _file_of(b"", lambda uri: MlflowClient(tracking_uri=uri).search_experiments())


@cache
def _written(name: str, runs: str) -> bytes:
    """The file of a study, of its runs as JSON."""
    built_runs = [Run(**run) for run in json.loads(runs)]
    return _file_of(empty_store(), lambda uri: _write(uri, name, built_runs))


def _file_of(before: bytes, write: Callable[[str], object]) -> bytes:
    """What is in an sqlite file after a write to it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mlflow.db"
        file.write_bytes(before)
        write(f"sqlite:///{file}")
        return file.read_bytes()


def _write(uri: str, name: str, runs: Sequence[Run]) -> None:
    """Write a study's runs, its own first, to MLflow."""
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
        client.set_terminated(created.info.run_id, STATUS.get(run.tags["ship.state"], "RUNNING"))


def prompt_len(**fields: Any) -> StoreBuilder:
    """The packaged study, whole: five levels, five seeds, four arms, seeded effects."""
    build = StoreBuilder(**fields)
    rng = np.random.default_rng(7)
    draws = {seed: float(rng.normal(0, 2)) for seed in build.seeds}
    for n_ctx, effect in {1: -2.5, 2: -0.8, 4: 0.0, 8: 0.6, 16: -0.4}.items():
        results = {
            s: scores(55 + effect + d + float(rng.normal(0, 0.8)), 70 + d / 3)
            for s, d in draws.items()
        }
        build.trial({"generator.n_ctx": n_ctx}, results)
    build.trial({}, {seed: scores(52.0, 61.0) for seed in draws}, control="zero_shot")
    levels = {"no_synthetic": 47.0, "text_feature": 54.0, "real_images": 71.0}
    for control, new in levels.items():
        build.trial({}, {s: scores(new + d, 71 + d / 4) for s, d in draws.items()}, control=control)
    return build
