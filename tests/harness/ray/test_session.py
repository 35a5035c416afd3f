"""A Ray of the study's own, as its workers see it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = """
import importlib.util, json, os, ray
from harness.ray import ray_session
from tests.harness.fakes import make_study
names = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")
ask = lambda: [*map(os.environ.get, names), str(importlib.util.find_spec("made_up"))]
with ray_session(make_study(), None, 0, False):
    print(json.dumps([ray.get(ray.remote(ask).remote()), ray.get_runtime_context().runtime_env]))
print(json.dumps(ask()))
"""


def test_workers_have_the_threads_of_a_trial_and_import_as_the_driver_does(tmp_path: Path) -> None:
    """Whatever the driver's threads are, which stay; Ray may start workers ahead of a first trial.

    A folder where a study is started does not hide an installed package of its name.
    """
    (tmp_path / "made_up").mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT],  # as ship-sweep: the folder is not on its path
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "7", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    (told, runtime_env), driver = map(json.loads, done.stdout.splitlines()[-2:])
    assert told == ["1", "PASSIVE", "None"]
    assert runtime_env == {}  # else no process that is there already would do
    assert driver == ["7", None, "None"]


OPEN = """
from ray._private import worker
from harness.ray import ray_session
from tests.harness.fakes import make_study
with ray_session(make_study(), None, 0, False):
    print(worker._global_node.get_session_dir_path(), flush=True)
    input()
"""
SOMEBODY = 65534


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_no_other_user_reaches_a_private_ray() -> None:
    """Its sockets, which carry pickles, and its logs lie in a folder of its user's alone."""
    with subprocess.Popen(
        [sys.executable, "-c", OPEN], cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True
    ) as session:
        assert session.stdin is not None and session.stdout is not None
        folder = Path(session.stdout.readline().strip())
        inside = [folder, *folder.rglob("*")]
        seen = subprocess.run(
            ["ls", "-d", "/", *inside],
            stdout=PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            user=SOMEBODY,
            group=SOMEBODY,
            extra_groups=[],
        ).stdout.splitlines()
        session.stdin.write("\n")
    assert session.returncode == 0
    assert {folder / "sockets" / name for name in ("raylet", "plasma_store")} <= set(inside)
    assert seen == ["/"]
    assert not folder.exists()
