"""Plugins on a worker: a node that lacks one, or has another version, fails its trials."""

import json
import pickle
from pathlib import Path

import pytest

from harness.method import knowing_plugins
from harness.worker.results import FAILED, FINAL
from harness.worker.spec import trial_spec
from ship.configs import FINETUNERS
from ship.plugins import carried, load_plugin
from ship.registry import Origin
from ship.trial_config import TrialConfig
from tests.harness.fakes import FakeClip
from tests.harness.worker.workers import CONFIG, analytic, finish, make_worker

pytestmark = pytest.mark.usefixtures("own_tables")

FILE = Path(__file__).parents[2] / "third_party" / "nearest_mean.py"


@pytest.fixture
def config() -> TrialConfig:
    """A trial with a plugin's fine-tuner."""
    load_plugin(FILE)
    return TrialConfig.model_validate({"finetuner": {"name": "nearest_mean"}})


def test_files_come_along(tmp_path: Path, config: TrialConfig) -> None:
    """A worker that has never seen the file runs its trials, and the next one's."""
    record = {"plugins": carried()}
    FINETUNERS.pop("nearest_mean")
    FINETUNERS.origins.pop("nearest_mean")
    spec = trial_spec(CONFIG, (0, 1), True)
    assert json.loads(spec["spec"])["plugins"] == {}
    worker = make_worker(analytic(tmp_path), record=record)
    spec = dict(worker._spec)
    spec["trial"] = config.model_dump(mode="json")
    worker.begin({"spec": json.dumps(spec)})
    assert FINAL in finish(worker)[-1]


def test_a_node_without_the_plugin(tmp_path: Path, config: TrialConfig) -> None:
    """The trial fails with the name that nobody knows there."""
    worker = make_worker(analytic(tmp_path), config=config)
    FINETUNERS.pop("nearest_mean")
    FINETUNERS.origins.pop("nearest_mean")
    (failed,) = finish(worker)[-1][FAILED]
    assert "on this node: Input tag 'nearest_mean'" in failed["reason"]


def test_a_node_with_another_version(tmp_path: Path, config: TrialConfig) -> None:
    """Its numbers would be those of other code."""
    worker = make_worker(analytic(tmp_path), config=config)
    FINETUNERS.origins["nearest_mean"] = Origin("package theirs", "theirs 0.2")
    (failed,) = finish(worker)[-1][FAILED]
    assert (
        "finetuner nearest_mean is theirs 0.2 on this node, and was planned as" in failed["reason"]
    )


def test_what_encodes_pictures_knows_the_files(config: TrialConfig) -> None:
    """On another node: pictures may be of a class that a file has, and come after the backbone."""
    load = knowing_plugins(FakeClip)
    FINETUNERS.pop("nearest_mean")
    FINETUNERS.origins.pop("nearest_mean")
    assert "nearest_mean" not in FINETUNERS
    assert pickle.dumps(load)  # as it goes to an actor
    assert isinstance(load("pocket", "cpu"), FakeClip)
    assert "nearest_mean" in FINETUNERS


def test_without_files_nothing_is_wrapped() -> None:
    """A study of built-ins alone has the backbone's own loader."""
    assert knowing_plugins(FakeClip) is FakeClip
