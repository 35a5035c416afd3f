"""What of a study reaches its workers."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.tuning.run import worker_arguments
from harness.worker import trial_spec
from harness.worker.worker import Worker
from tests.harness.fakes import FakeClip, make_method, make_study


def load(name: str, device: str = "cpu", precision: str = "fp32") -> FakeClip:
    """A backbone that could record steps."""
    clip = FakeClip(name, device, precision)
    clip.recorder = "a recorder"
    return clip


@pytest.mark.parametrize(("said", "kept"), [("auto", "a recorder"), ("off", None)])
def test_compile_says_whether_steps_are_recorded(
    tmp_path: Path, said: str, kept: str | None
) -> None:
    """Whatever the backbone brings along."""
    study = make_study(compile=said)
    method = replace(make_method(tmp_path / "log"), load_backbone=load)
    worker = Worker({}, **worker_arguments(study, method, None))
    worker.begin(trial_spec(study.trial, [0], True))
    assert worker._backbone(worker._parse()).recorder == kept
