"""Files of checkpoints in a folder and in a bucket: complete or missing, even after kills."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.checkpoints import Storage, StorageError, resolve_storage_uri
from harness.store import Timing, open_and_lock_study
from harness.study.run import make_storage


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Return an empty storage."""
    uri = str(tmp_path) if request.param == "folder" else request.getfixturevalue("bucket")
    return Storage(uri, "study")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Create a bucket on an S3 server of this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    place = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    from pyarrow.fs import FileSystem

    system, _ = FileSystem.from_uri(f"s3://studies?{place}&allow_bucket_creation=true")
    system.create_dir("studies")
    yield f"s3://studies/below?{place}"
    server.stop()


def test_file_is_read_as_written(storage: Storage) -> None:
    """It can be replaced, and removed twice."""
    assert storage.read("a") is None
    storage.check()
    for data in (b"one", bytes(3 * 2**20)):
        storage.write("a", data)
        assert storage.read("a") == data
    storage.write("b", b"other")
    storage.delete("a")
    storage.delete("a")
    assert storage.read("a") is None
    assert storage.read("b") == b"other"
    storage.remove()
    storage.remove()
    assert storage.read("b") is None


def test_studies_and_stores_do_not_share_checkpoints(tmp_path: Path) -> None:
    """Two stores may have one address, seen from two machines, and equal experiment IDs."""

    def of(folder: str, study: str) -> Storage:
        (tmp_path / folder).mkdir(exist_ok=True)
        with open_and_lock_study(
            f"sqlite:///{tmp_path / folder}/mlflow.db",
            study,
            Timing(claim_pause=0.0),
            timeout=0.0,
            fail=Mock(),
            is_stopped=Mock(),
            print_line=Mock(),
        ) as study_store:
            return make_storage(str(tmp_path), study_store)

    storage = of("here", "small")
    assert of("here", "small") == storage
    for other in (of("there", "small"), of("here", "large")):
        storage.write("x", b"mine")
        assert other.read("x") is None
        other.remove()
        assert storage.read("x") == b"mine"


def test_storage_uri_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option, the environment, or the cache; always absolute, as workers need it."""
    monkeypatch.delenv("SHIP_SWEEP_STORAGE", raising=False)
    assert resolve_storage_uri(None, tmp_path) == str(tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIP_SWEEP_STORAGE", "s3://bucket/x")
    assert resolve_storage_uri(None, tmp_path) == "s3://bucket/x"
    assert resolve_storage_uri("near", tmp_path) == str(tmp_path / "near")
    for folder in ("a:b", "s3"):
        assert resolve_storage_uri(folder, tmp_path) == str(tmp_path / folder)
    with pytest.raises(StorageError, match="must be a folder or begin with s3://, got 's3:/x'"):
        resolve_storage_uri("s3:/x", tmp_path)


WRITER = """
import sys
from harness.checkpoints import Storage
storage = Storage(sys.argv[1], "study")
for turn in range(10**6):
    storage.write("a", bytes([turn % 256]) * 2**24)
"""


@pytest.mark.faults
def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """The old one or the new one, at eight moments."""
    storage = Storage(str(tmp_path), "study")
    for turn in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
        end = time.monotonic() + 60
        while storage.read("a") is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.01 * turn)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        data = storage.read("a")
        assert data is not None
        assert len(data) == 2**24
        assert data == data[:1] * 2**24
        storage.delete("a")
    assert not list(tmp_path.rglob("*.part"))
