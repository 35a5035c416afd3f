"""Functions of `harness` called from Python: invalid arguments, mappings, plans and models."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from harness import load_trained, plan_study, run_study
from harness.config.load import load_study
from harness.errors import ConfigError
from harness.planning import Plan
from harness.planning.plan import TimeEstimate
from harness.store.errors import StoreError
from ship.trial import TrainedError
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ([{"seeds": 3}],),
            "the study must be a YAML file or the name of a packaged study, got a value of type "
            "list (choices: ",
        ),
        (
            ("prompt_len", "seeds=3"),
            "overrides must be a list such as [\"seeds=3\"], got 'seeds=3'",
        ),
        (
            (load_study({"name": "x", "space": {"shots": [1, 2]}}), ["seeds=3"]),
            "overrides cannot be combined with a StudyConfig, got ['seeds=3']",
        ),
        (
            ("prompt_len", Path("seeds=3")),
            "overrides must be a list such as [\"seeds=3\"], got PosixPath('seeds=3')",
        ),
        (("prompt_len", [3]), 'overrides must be a list such as ["seeds=3"], got [3]'),
        (({"space": {"shots": [1, 2]}},), "study: name is required"),
        (
            ({"name": "x", "space": {"shot": [1]}}, ["seed=3"]),
            "overrides (--set): seed is an unknown key",
        ),
        (
            ("prompt_len", ["generator.n_ctx=4"]),
            "overrides (--set): generator.n_ctx is a factor",
        ),
    ],
)
def test_an_argument_of_another_type_is_named(arguments: Any, message: str) -> None:
    """The message names the argument, even if the command line has an option for it."""
    with pytest.raises(ConfigError) as raised:
        run_study(*arguments)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"plugins": "mine.py"},
            "plugins must be a list such as [\"my_method.py\"], got 'mine.py'",
        ),
        ({"address": "auto", "in_process": True}, "in_process cannot be combined with address"),
        (
            {"address": "ray://head:10001"},
            "address must be local, auto or HOST:PORT (Ray Client is not supported), got",
        ),
        ({"address": "head"}, "address must be local, auto or HOST:PORT"),
    ],
)
def test_an_invalid_argument_is_one_line_with_its_name(arguments: Any, message: str) -> None:
    """The argument is rejected before a store is opened or Ray is started."""
    with pytest.raises(ConfigError) as raised:
        run_study("prompt_len", **arguments)
    assert str(raised.value).startswith(message)


def test_a_study_may_be_a_mapping(tmp_path: Path) -> None:
    """Any mapping with the keys of a YAML is accepted. Overrides may contain the name."""
    space = MappingProxyType({"generator.n_ctx": (1, 2)})
    mapping = MappingProxyType({"space": space, "dataset": "emoji"})
    options: Any = {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db", "cache_dir": tmp_path}
    rows = plan_study(
        mapping, ["name=mine", "seeds=[3]", "controls=false"], details=False, **options
    ).rows
    assert [(row.label, row.seeds) for row in rows] == [("n_ctx=1", (3,)), ("n_ctx=2", (3,))]


def test_a_plan_is_a_table_and_a_frame_in_a_notebook(tmp_path: Path) -> None:
    """Each configuration has a row with its seeds and time. HTML in labels and notes is escaped."""
    options: Any = {"tracking_uri": f"sqlite:///{tmp_path}/mlflow.db", "cache_dir": tmp_path}
    overrides = ["name=mine", "seeds=[3, 5]", "dataset=emoji"]
    plan = plan_study({"space": {"generator.n_ctx": [1]}}, overrides, details=False, **options)
    frame = plan.frame
    assert frame["configuration"].to_list()[-1] == "n_ctx=1"
    assert frame.row(-1, named=True) | {"config_key": ""} == {
        "configuration": "n_ctx=1", "control": None, "state": "to run", "seeds_to_run": [3, 5],
        "seeds_done": [], "seeds_failed": [], "reason": None, "seconds": None, "config_key": "",
    }  # fmt: skip
    assert frame["control"].to_list()[0] == "zero_shot" and len(frame) == 5
    noted = replace(
        plan,
        notes=("<b>\x1b",),
        estimate=TimeEstimate({frame["config_key"][-1]: 90.0}, (90.0,), (), 2, 3),
    )
    html = noted._repr_html_()
    assert "<td>n_ctx=1</td><td>to run</td><td>3, 5</td><td>1.5 min</td>" in html
    assert "estimated time left for trials: about " in html and "from 3 finished trials" in html
    assert "<li>&lt;b&gt;\\x1b</li>" in html
    assert noted.frame["seconds"].to_list()[-1] == 90.0
    assert Plan((), (), 0).frame.columns == frame.columns


def test_local_is_the_address_of_this_machine(bench: Bench) -> None:
    """`address="local"` has the same meaning as on the command line."""
    assert bench.run(make_study(), address="local").complete


def test_loading_a_model_creates_no_store(tmp_path: Path) -> None:
    """A missing store is a one-line error."""
    with pytest.raises(StoreError, match="no MLflow store found"):
        load_trained("runs:/" + "0" * 32, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert not list(tmp_path.iterdir())
    with pytest.raises(TrainedError, match="nowhere"):
        load_trained(tmp_path / "nowhere")
