"""A cluster started with `ray start` on this machine, joined by the command line."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.fakes import draw_images
from tests.harness.servers import Daemon, free_port

STUDY = """
name: joined
dataset: image_folder:few
generator: none
finetuner: tip_adapter
augmentations: 0
space: {shots: [1, 2]}
controls: false
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Create a home with a token of Ray. Its path is short because it contains Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ship-home-", dir="/tmp"))
    (folder / ".ray").mkdir()
    (folder / ".ray" / "auth_token").write_text(secrets.token_hex(32))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.weekly
@pytest.mark.timeout(900)
def test_cluster_is_joined_by_auto_and_by_address(home: Path, tmp_path: Path) -> None:
    """Its nodes require the user's token (Ray 2.59 and later), and no mode is set."""
    draw_images(tmp_path / "data")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")},
        "HOME": str(home),
        "RAY_TMPDIR": str(home),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "SHIP_SWEEP_CACHE": str(tmp_path / "cache"),
    }
    address = f"127.0.0.1:{free_port()}"
    start = ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=1"]
    start += ["--num-gpus=0", "--node-ip-address=127.0.0.1", f"--port={address.split(':')[1]}"]
    start += ["--include-dashboard=false", "--object-store-memory=100000000"]
    ray = Daemon([sys.executable, *start], tmp_path / "ray.log", env=environment, cwd=home)
    (tmp_path / "study.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "harness.cli.main", "--space", "study.yaml"]
    command += ["--data-root", str(tmp_path / "data")]
    try:
        wait = [sys.executable, "-m", "harness.ray.wait", address, "1", "120"]
        done = subprocess.run(wait, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for place, seeds in (("auto", 1), (address, 2)):
            done = subprocess.run(
                [*command, "--address", place, "--set", f"seeds={seeds}"],
                env=environment,
                cwd=tmp_path,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, (place, done.stdout, done.stderr)
            assert "[2/2] complete" in done.stdout + done.stderr
    finally:
        ray.end(signal.SIGTERM)
