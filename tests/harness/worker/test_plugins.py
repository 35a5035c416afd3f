"""Plugins on a worker: a node that lacks one, or has another version, fails its trials."""

import json
import pickle
from pathlib import Path

import pytest

from harness.messages import FAILED, FINAL
from harness.method import knowing_plugins
from ship.configs import FINETUNERS
from ship.plugins import carried, load_plugin
from ship.registry import Origin
from ship.trial_config import TrialConfig
from tests.harness.fakes import FakeClip
from tests.harness.worker.workers import analytic, finish, make_worker

pytestmark = pytest.mark.usefixtures("own_tables")

FILE = Path(__file__).parents[2] / "third_party" / "nearest_mean.py"


@pytest.fixture
def config() -> TrialConfig:
    """A trial with a plugin's fine-tuner."""
    load_plugin(FILE)
    return TrialConfig.model_validate({"finetuner": {"name": "nearest_mean"}})


def forget_plugin() -> None:
    """Be a node that has never seen the file."""
    FINETUNERS.pop("nearest_mean")
    FINETUNERS.origins.pop("nearest_mean")


def test_files_come_along(tmp_path: Path, config: TrialConfig) -> None:
    """A worker that has never seen the file runs its trials, and the next one's."""
    record = {"plugins": carried()}
    forget_plugin()
    worker = make_worker(analytic(tmp_path), record=record)
    spec = dict(worker._spec)
    spec["trial"] = config.model_dump(mode="json")
    worker.begin({"spec": json.dumps(spec)})
    assert FINAL in finish(worker)[-1]


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        (None, "on this node: Input tag 'nearest_mean'"),
        (
            Origin("package theirs", "theirs 0.2"),
            "finetuner nearest_mean is theirs 0.2 on this node, and was planned as",
        ),
    ],
)
def test_a_node_that_lacks_a_plugin_or_has_another_version_of_it(
    tmp_path: Path, config: TrialConfig, origin: Origin | None, told: str
) -> None:
    """Its trials fail: their numbers would be those of other code."""
    worker = make_worker(analytic(tmp_path), config=config)
    if origin is None:
        forget_plugin()
    else:
        FINETUNERS.origins["nearest_mean"] = origin
    (failed,) = finish(worker)[-1][FAILED]
    assert told in failed["reason"]


def test_what_encodes_pictures_knows_the_files(config: TrialConfig) -> None:
    """On another node: pictures may be of a class that a file has, and come after the backbone."""
    load = knowing_plugins(FakeClip)
    forget_plugin()
    assert pickle.dumps(load)  # as it goes to an actor
    assert isinstance(load("pocket", "cpu"), FakeClip)
    assert "nearest_mean" in FINETUNERS
