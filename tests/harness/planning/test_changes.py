"""Finished rows that leave a study's table when its YAML is edited, and the message."""

import json
from collections.abc import Callable
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
class History:
    """A study's store as runs leave it, without Ray."""

    store: Store
    prints: Fingerprints

    def ran(self, study: StudyConfig, *, only: Callable[[Any], bool] = lambda _: True) -> None:
        """Note a run of the study: describe it, and complete the settings that `only` names."""
        experiment = self.store.get_or_create_experiment("small")
        plan = read_state(study, self.prints, self.store).plan
        record = ParentRun.get_or_create(self.store, experiment, study)
        record.describe(study, plan)
        for work in plan.work:
            if only(work.configuration):
                self.complete(experiment, work.configuration, work.seeds)

    def complete(self, experiment: str, configuration: Any, seeds: tuple[int, ...]) -> None:
        """A finished run of a setting, of 10 s a seed."""
        tags = {
            "ship.kind": "trial",
            "ship.state": "COMPLETE",
            "ship.seeds": json.dumps(list(seeds)),
            **make_configuration_tags(configuration),
            **make_provenance_tags(configuration, self.prints),
        }
        run = self.store.client.create_run(experiment, tags=tags).info.run_id
        tested = {
            name_seed_metric(seed, f"test/{name}"): 50.0 for seed in seeds for name in REQUIRED
        }
        metrics = make_points({"trial/seconds": 10.0 * len(seeds), **tested})
        self.store.write(
            RunUpdate(run_id=run, params=list_params(configuration.trial), metrics=metrics)
        )

    def changes(self, study: StudyConfig) -> StaleRows:
        """What a run of the study would leave out of the table."""
        return read_state(study, self.prints, self.store).find_stale_rows()


@pytest.fixture
def history(store: Store, prints: Fingerprints) -> History:
    """An empty store."""
    return History(store, prints)


def counts(changes: StaleRows) -> tuple[int, int]:
    """Rows that changed, and rows that were removed."""
    return len(changes.changed), len(changes.removed)


STUDIES = load_cases(__file__, "edits.yaml")


@pytest.mark.parametrize("case", STUDIES, ids=lambda case: str(case["study"]))
def test_an_edit_changes_or_removes_rows(history: History, case: dict[str, Any]) -> None:
    """Rows of removed levels, seeds and factors leave, and rows of other constants have changed.

    The line of a constant has both values, and other rows stay.
    """
    history.ran(make_study(**case["study"]))
    for edit in case["edits"]:
        changes = history.changes(make_study(**edit["to"]))
        expected = (edit.get("changed", 0), edit.get("removed", 0))
        assert (counts(changes), list(changes.differences)) == (expected, edit.get("lines", [])), (
            edit
        )


def test_rows_of_a_sampler_change_although_no_plan_has_them(history: History) -> None:
    """Rows outside the new range are removed."""
    keys: dict[str, Any] = {"sampler": "random", "n_trials": 3, "seeds": 1}
    space = {"generator.kl_weight": {"low": 1e-3, "high": 1.0, "log": True}}
    study = make_study(space=space, **keys)
    history.ran(study)
    experiment = history.store.get_or_create_experiment("small")
    make = ConfigurationMaker(study, history.prints)
    record = ParentRun.get_or_create(history.store, experiment, study)
    for value in (0.002, 0.2):
        record.add_planned(make({"generator.kl_weight": value}))
        history.complete(experiment, make({"generator.kl_weight": value}), (0,))
    record.describe(study, read_state(study, history.prints, history.store).plan)
    assert counts(history.changes(study)) == (0, 0)
    assert counts(history.changes(make_study(space=space, shots=4, **keys))) == (2, 0)
    narrow = {"generator.kl_weight": {"low": 1e-1, "high": 1.0, "log": True}}
    assert counts(history.changes(make_study(space=narrow, **keys))) == (0, 1)


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        ("backbone_fingerprint", "x", "backbone pocket: its content has changed"),
        ("dataset_fingerprint", "x", "dataset emoji: its content has changed"),
        ("results_version", "1", f"results version of the method: 1 -> {RESULTS_VERSION}"),
        ("code_version", "1", "something that the store does not record"),
    ],
)
def test_changes_of_data_weights_and_methods_are_named(
    history: History, tag: str, value: str, words: str
) -> None:
    """The run's own tags have them. If an edit affects no row, they are the only changes."""
    space = {"dataset": ["emoji"], "generator.n_ctx": [1, 2, 4]}
    history.ran(make_study(space=space))
    experiment = history.store.get_or_create_experiment("small")
    client = history.store.client
    for run in client.search_runs([experiment]):
        if run.data.tags["ship.kind"] == "trial":
            client.set_tag(run.info.run_id, f"ship.{tag}", value)
            key = run.data.tags["ship.config_key"]
            client.set_tag(run.info.run_id, "ship.config_key", key[::-1])
        else:
            wanted = json.loads(run.data.tags["ship.planned"])
            keys = [{**row, "config_key": row["config_key"][::-1]} for row in wanted]
            client.set_tag(run.info.run_id, "ship.planned", json.dumps(keys))
    variants = {"dataset": {"photos": {"augmentations": 3}}}
    changes = history.changes(make_study(space=space, variants=variants))
    assert counts(changes) == (6, 0)
    (line,) = changes.differences
    assert line.startswith(words)


def test_the_message_has_a_line_per_change_and_its_cost() -> None:
    """The number of rows and their time follow the differences."""
    changes = StaleRows(differences=dict.fromkeys(f"key {n}: 1 -> 2" for n in range(2)))
    changes.changed |= {("a", 0): 20.0, ("a", 1): 20.0, ("b", 0): 20.0}
    head, first, _, rows, _ = changes.text("x.yaml").splitlines()
    assert (head, first) == ("x.yaml: the study has changed:", "  key 0: 1 -> 2")
    assert rows.startswith("3 finished rows of 2 configurations (1.0 min of computing) would leave")
