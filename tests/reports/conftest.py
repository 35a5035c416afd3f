"""Stores for the tests of the reports; images that are not drawn."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from reports.charts import Chart


@pytest.fixture
def store_uri(tmp_path: Path) -> str:
    """Where a store of the test's own may be written."""
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture(scope="session", autouse=True)
def undrawn() -> Iterator[None]:
    """The files of a report have no images.

    What draws is called by itself, in tests.reports.charts.test_charts.
    """

    def drawn(chart: Chart) -> dict[str, bytes]:
        digest = hashlib.sha256(repr((chart.name, chart.spec)).encode()).digest()
        return {kind: kind.encode() + digest for kind in ("png", "svg", "pdf")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.render.files.render_chart", drawn)
        yield
