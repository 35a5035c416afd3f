"""Fixtures for the tests of reports: the URI of a store, and a stub for drawing charts."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.charts import Chart


@pytest.fixture
def store_uri(tmp_path: Path) -> str:
    """Return the URI of a store that does not exist yet."""
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture(scope="session", autouse=True)
def chart_stub() -> Iterator[None]:
    """Write a digest instead of an image into the files of charts, because drawing is slow.

    tests.reports.charts.test_charts draws images.
    """

    def digest_chart(chart: Chart) -> dict[str, bytes]:
        digest = hashlib.sha256(repr((chart.name, chart.spec)).encode()).digest()
        return {kind: kind.encode() + digest for kind in ("png", "svg", "pdf")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.render.files.render_chart", digest_chart)
        yield
