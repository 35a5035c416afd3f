"""The driver of a study on two nodes is killed and replaced by a driver on the other node."""

import os
import secrets
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.store import read_run_files
from harness.store.history import read_history
from harness.store.open import open_store
from ship.datasets import load_dataset
from tests.harness.ray_node import Node
from tests.harness.same_table import assert_same_table
from tests.harness.servers import find_free_port
from tests.harness.study.drivers import wait_for

NAME = "two_nodes"
# The trials of 1 and 2 have equal accuracies, so asha stops neither. It stops those of -1 and -2,
# which predict the least probable class, at their first evaluation.
STUDY = f"""
name: {NAME}
dataset: image_folder:emoji
backbone: pocket
generator: noisy_text
finetuner: linear
augmentations: 0
shots: 4
seeds: 2
save_models: true
checkpoint_every: 0
scheduler: {{name: asha, grace_period: 1, reduction_factor: 2}}
space: {{finetuner.sign: [1, 2, -1, -2]}}
controls: false
"""
PLUGIN = Path(__file__).parents[2] / "third_party" / "gated.py"
N_BEFORE = 4  # steps of a trial before the driver is killed


def write_images(root: Path) -> None:
    """Write every third class of the packaged images to folders."""
    dataset = load_dataset("emoji")
    for split, content in dataset.splits.items():
        for number, (image, label) in enumerate(zip(content.images, content.labels, strict=True)):
            if label % 3 == 0:
                path = root / "emoji" / dataset.class_names[label] / f"{split}-{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.open().save(path)


@pytest.fixture
def nodes(ray_folder: Path, tmp_path: Path) -> Iterator[list[Node]]:
    """Create two nodes with separate homes, caches and copies of the plugin, and one token.

    They share the store, the images, the checkpoints, and the file for which the plugin waits.
    """
    token = secrets.token_hex(32)
    (tmp_path / "gate").mkdir()
    both_nodes = [
        Node(
            ray_folder / name,
            token,
            MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/mlflow.db",
            SHIP_SWEEP_CACHE=str(ray_folder / name / "cache"),
            SHIP_TEST_NODE=name,
            SHIP_TEST_GATE=str(tmp_path / "gate"),
        )
        for name in "ab"
    ]
    for node in both_nodes:
        (node.home / "methods.py").write_text(PLUGIN.read_text("utf-8"), "utf-8")
        (node.home / "study.yaml").write_text(STUDY, "utf-8")
    yield both_nodes
    for node in reversed(both_nodes):
        node.stop()


def count_steps(gate: Path) -> Counter[str]:
    """Return the number of training steps per sign, which the plugin has logged."""
    return Counter(line.partition(":")[2] for line in (gate / "calls").read_text().split())


def read_models(uri: str) -> dict[float, dict[str, bytes]]:
    """Return the saved models of the study's complete runs, by sign and file name."""
    store = open_store(uri)
    models: dict[float, dict[str, bytes]] = {}
    for run in read_history(store.client, str(store.find_experiment(NAME)), "harmonic_mean").runs:
        if run.state == "COMPLETE":
            files = read_run_files(store.client, run.logged, trained=True)
            assert files is not None
            models[float(run.assignment["finetuner.sign"])] = {
                k: v for k, v in files.items() if k.endswith(".safetensors")
            }
    return models


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_killed_driver_is_replaced_on_the_other_node(nodes: list[Node], tmp_path: Path) -> None:
    """Trials of both nodes resume from their checkpoints. Models and table are the same."""
    write_images(tmp_path / "data")
    first, other = nodes
    gate, storage = tmp_path / "gate", tmp_path / "checkpoints"
    command = ["--space", "study.yaml", "--plugin", "methods.py"]
    command += ["--data-root", str(tmp_path / "data")]
    port = find_free_port()
    first.start(port, head=True, n_nodes=1)
    other.start(port, head=False, n_nodes=2)
    on_cluster = [*command, "--address", f"127.0.0.1:{port}", "--storage", str(storage)]

    driver = first.start_driver(*on_cluster)
    waiting = [gate / "waiting-1", gate / "waiting-2"]
    wait_for(lambda: all(map(Path.exists, waiting)) or driver.poll() is not None)
    assert driver.poll() is None, driver.communicate()
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    workers = [int(path.read_text()) for path in waiting]
    wait_for(lambda: not any(map(psutil.pid_exists, workers)))
    calls = (gate / "calls").read_text().split()
    assert {call.partition(":")[0] for call in calls} == {"a", "b"}
    assert len(list(storage.rglob("*.safetensors"))) == 2
    (gate / "open").touch()

    driver = other.start_driver(*on_cluster)
    output, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, output
    assert "4 pruned" in output

    undisturbed, open_gate = f"sqlite:///{tmp_path}/undisturbed.db", tmp_path / "open_gate"
    open_gate.mkdir()
    (open_gate / "open").touch()
    other.environment |= {"MLFLOW_TRACKING_URI": undisturbed, "SHIP_TEST_GATE": str(open_gate)}
    driver = other.start_driver(*command, "--in-process")
    output, _ = driver.communicate(timeout=240)
    assert driver.returncode == 0, output
    steps, expected = count_steps(gate), count_steps(open_gate)
    for sign in ("1", "2"):
        assert expected[sign] < steps[sign] < expected[sign] + N_BEFORE  # no trial began again
    disturbed = f"sqlite:///{tmp_path}/mlflow.db"
    assert_same_table(disturbed, undisturbed, NAME)
    models = read_models(disturbed)
    assert sorted(models) == [1.0, 2.0] and models == read_models(undisturbed)
    assert all(len(files) == 2 for files in models.values())
