"""ship-sweep joins a cluster that was started with `ray start` on this machine."""

import secrets
from pathlib import Path

import pytest

from tests.harness.fakes import draw_images
from tests.harness.ray_node import Node
from tests.harness.servers import find_free_port

STUDY = """
name: joined
dataset: image_folder:few
generator: none
finetuner: tip_adapter
augmentations: 0
space: {shots: [1, 2]}
controls: false
"""


@pytest.mark.weekly
@pytest.mark.timeout(900)
def test_cluster_is_joined_by_auto_and_by_address(ray_folder: Path, tmp_path: Path) -> None:
    """The cluster requires the user's token (Ray 2.59 and later) although no mode is set."""
    draw_images(tmp_path / "data")
    (tmp_path / "study.yaml").write_text(STUDY, "utf-8")
    node = Node(
        ray_folder / "home",
        secrets.token_hex(32),
        MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db",
        SHIP_SWEEP_CACHE=str(tmp_path / "cache"),
    )
    command = ["--space", str(tmp_path / "study.yaml"), "--data-root", str(tmp_path / "data")]
    port = find_free_port()
    try:
        node.start(port, head=True, n_nodes=1)
        for address, seeds in (("auto", 1), (f"127.0.0.1:{port}", 2)):
            driver = node.start_driver(*command, "--address", address, "--set", f"seeds={seeds}")
            output, _ = driver.communicate(timeout=240)
            assert driver.returncode == 0, (address, output)
            assert "[2/2] complete" in output
    finally:
        node.stop()
