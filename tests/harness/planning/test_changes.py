"""Finished rows that an edit of the YAML removes from a study's table, and the message."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from harness.config.study_config import StudyConfig
from harness.planning.changes import StaleRows
from harness.planning.configurations import ConfigurationMaker
from harness.planning.fingerprints import Fingerprints
from harness.recording.numbers import make_provenance_tags
from harness.recording.study_run import ParentRun, make_configuration_tags
from harness.store import PROTOCOLS, name_seed_metric
from harness.store.open import Store
from harness.store.run_update import RunUpdate, list_params, make_points
from harness.study.state import read_state
from ship.trial_config import RESULTS_VERSION
from tests.case_files import load_cases
from tests.harness.fakes import make_study

REQUIRED = PROTOCOLS["base_to_new"].required


@dataclass
class StudyHistory:
    """A store with runs of a study, which are written without Ray."""

    store: Store
    prints: Fingerprints

    def complete_study(self, study: StudyConfig) -> None:
        """Write the study's description and a finished run of each of its configurations."""
        experiment = self.store.get_or_create_experiment("small")
        plan = read_state(study, self.prints, self.store).plan
        parent = ParentRun.get_or_create(self.store, experiment, study)
        parent.describe(study, plan)
        for work in plan.work:
            self.write_run(experiment, work.configuration, work.seeds)

    def write_run(self, experiment: str, configuration: Any, seeds: tuple[int, ...]) -> None:
        """Write a finished run of a configuration that took 10 s per seed."""
        tags = {
            "ship.kind": "trial",
            "ship.state": "COMPLETE",
            "ship.seeds": json.dumps(list(seeds)),
            **make_configuration_tags(configuration),
            **make_provenance_tags(configuration, self.prints),
        }
        run = self.store.client.create_run(experiment, tags=tags).info.run_id
        test_metrics = {
            name_seed_metric(seed, f"test/{name}"): 50.0 for seed in seeds for name in REQUIRED
        }
        metrics = make_points({"trial/seconds": 10.0 * len(seeds), **test_metrics})
        self.store.write(
            RunUpdate(run_id=run, params=list_params(configuration.trial), metrics=metrics)
        )

    def find_stale_rows(self, study: StudyConfig) -> StaleRows:
        """Return the finished rows that a run of the study would remove from the table."""
        return read_state(study, self.prints, self.store).find_stale_rows()


@pytest.fixture
def history(store: Store, prints: Fingerprints) -> StudyHistory:
    """Return an empty store."""
    return StudyHistory(store, prints)


def count_rows(stale_rows: StaleRows) -> tuple[int, int]:
    """Return the numbers of changed and removed rows."""
    return len(stale_rows.changed), len(stale_rows.removed)


STUDIES = load_cases(__file__, "edits.yaml")


@pytest.mark.parametrize("case", STUDIES, ids=lambda case: str(case["study"]))
def test_an_edit_changes_or_removes_rows(history: StudyHistory, case: dict[str, Any]) -> None:
    """Rows are removed with their level, seed or factor, and changed with a constant.

    The line of a changed constant has both values.
    """
    history.complete_study(make_study(**case["study"]))
    for edit in case["edits"]:
        stale_rows = history.find_stale_rows(make_study(**edit["to"]))
        assert count_rows(stale_rows) == (edit.get("changed", 0), edit.get("removed", 0)), edit
        assert list(stale_rows.differences) == edit.get("lines", []), edit


def test_rows_that_a_sampler_proposed_can_be_changed_or_removed(history: StudyHistory) -> None:
    """They are not in the plan of an unfinished study. Rows outside the new range are removed."""
    keys: dict[str, Any] = {"sampler": "random", "n_trials": 3, "seeds": 1}
    space = {"generator.kl_weight": {"low": 1e-3, "high": 1.0, "log": True}}
    study = make_study(space=space, **keys)
    history.complete_study(study)
    experiment = history.store.get_or_create_experiment("small")
    maker = ConfigurationMaker(study, history.prints)
    parent = ParentRun.get_or_create(history.store, experiment, study)
    for value in (0.002, 0.2):
        configuration = maker({"generator.kl_weight": value})
        parent.add_planned(configuration)
        history.write_run(experiment, configuration, (0,))
    parent.describe(study, read_state(study, history.prints, history.store).plan)
    assert count_rows(history.find_stale_rows(study)) == (0, 0)
    changed = make_study(space=space, shots=4, **keys)
    assert count_rows(history.find_stale_rows(changed)) == (2, 0)
    narrow_space = {"generator.kl_weight": {"low": 1e-1, "high": 1.0, "log": True}}
    narrowed = make_study(space=narrow_space, **keys)
    assert count_rows(history.find_stale_rows(narrowed)) == (0, 1)


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        ("backbone_fingerprint", "x", "backbone pocket: its content has changed"),
        ("dataset_fingerprint", "x", "dataset emoji: its content has changed"),
        ("results_version", "1", f"results version of the method: 1 -> {RESULTS_VERSION}"),
        ("code_version", "1", "something that the store does not record"),
    ],
)
def test_changes_of_data_weights_and_methods_are_named(
    history: StudyHistory, tag: str, value: str, reason: str
) -> None:
    """They are read from the tags of the runs. An edit that affects no row is not a reason."""
    space = {"dataset": ["emoji"], "generator.n_ctx": [1, 2, 4]}
    history.complete_study(make_study(space=space))
    experiment = history.store.get_or_create_experiment("small")
    client = history.store.client
    for run in client.search_runs([experiment]):
        if run.data.tags["ship.kind"] == "trial":
            client.set_tag(run.info.run_id, f"ship.{tag}", value)
            key = run.data.tags["ship.config_key"]
            client.set_tag(run.info.run_id, "ship.config_key", key[::-1])
        else:
            planned = json.loads(run.data.tags["ship.planned"])
            planned = [{**row, "config_key": row["config_key"][::-1]} for row in planned]
            client.set_tag(run.info.run_id, "ship.planned", json.dumps(planned))
    variants = {"dataset": {"photos": {"augmentations": 3}}}
    stale_rows = history.find_stale_rows(make_study(space=space, variants=variants))
    assert count_rows(stale_rows) == (6, 0)
    (line,) = stale_rows.differences
    assert line.startswith(reason)


def test_the_message_has_a_line_per_difference() -> None:
    """The number of rows and their computing time follow the differences."""
    stale_rows = StaleRows(differences=dict.fromkeys(f"key {n}: 1 -> 2" for n in range(2)))
    stale_rows.changed |= {("a", 0): 20.0, ("a", 1): 20.0, ("b", 0): 20.0}
    head, first, _, rows, _ = stale_rows.text("x.yaml").splitlines()
    assert (head, first) == ("x.yaml: the study has changed:", "  key 0: 1 -> 2")
    assert rows.startswith("3 finished rows of 2 configurations (1.0 min of computing) would leave")
