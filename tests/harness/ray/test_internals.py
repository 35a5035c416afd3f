"""What Ray does not promise is named in one file, and a study runs without it."""

import os
import re
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import Mock

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from harness.ray import internals
from harness.ray.internals import MODE, TOKEN, TOKEN_PATH, private_ray
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.told import told

ROOT = Path(__file__).parents[3]
ONLY_THERE = "harness/ray/internals.py"
NAMES = told(__file__, "ray_names.yaml")
PRIVATE = (
    r"\bray(?:\.\w+)*\._[a-z]\w*"  # a module or an attribute of Ray's own
    r"|\bfrom ray[\w.]* import (?:.*\W)?_[a-z]\w*"
    f"|{'|'.join(map(re.escape, NAMES['undocumented'] + NAMES['messages']))}"
)
HIDDEN = r"(?<!\bself)(?<!\bcls)(?<!\bos)\._[a-z]\w*"  # of an object that Ray may have made


def private_names(source: str) -> list[str]:
    """Names in a source that Ray does not promise: by import, by attribute or as a text."""
    uses_ray = re.search(r"^\s*(import|from) ray\b", source, re.M)
    return re.findall(f"{PRIVATE}|{HIDDEN}" if uses_ray else PRIVATE, source)


def test_no_other_file_names_what_ray_does_not_promise() -> None:
    """A new release of Ray can break one file alone."""
    files = sorted((ROOT / "harness").rglob("*.py"))
    assert len(files) > 50
    found = {
        path.relative_to(ROOT).as_posix(): names
        for path in files
        if (names := private_names(path.read_text("utf-8")))
    }
    assert {"ray._raylet", "ray._private", "temporary_state", NAMES["messages"][0]} <= set(
        found.pop(ONLY_THERE)
    )
    assert not found
    for source in (
        "from ray import _raylet",
        "import ray\ntrial._state",
        "import ray.tune._internal",
    ):
        assert private_names(source)
    assert not private_names("import ray\nself._own") and not private_names("array._x")


@pytest.mark.slow
def test_a_study_runs_where_ray_has_none_of_the_names(
    ray_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of Ray's own is found, and no token is set that its core would not know."""
    for name in (MODE, TOKEN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(internals, "resolve_name", Mock(side_effect=AttributeError))
    with private_ray():
        assert not {MODE, TOKEN} & set(os.environ)
    outcome = ray_bench.run(make_study(space={"generator.n_ctx": [1, 2]}, seeds=1))
    assert outcome.complete
    assert ray_bench.states() == ["COMPLETE"] * 2
    ray_bench.check_invariants()


@pytest.mark.parametrize("name", NAMES["today"])
def test_ray_has_every_name_today(name: str) -> None:
    """The installed Ray is one that nothing has to be done without."""
    resolve_name(name)


def test_a_memory_kill_is_told_in_whatever_place_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune is told of it in the one way that does not end the whole run, and of all else as it is.

    Another order or number of arguments of Tune's does not keep it from being a death.
    """
    from ray.air.execution._internal.actor_manager import RayActorManager

    seen: list[Any] = []
    monkeypatch.setattr(
        RayActorManager, "_actor_task_failed", lambda *given, **keys: seen.append((given, keys))
    )
    manager: Any = object()
    with internals.memory_kills_as_worker_deaths():
        failed: Any = RayActorManager._actor_task_failed
        failed(manager, OutOfMemoryError("x"))
        failed(manager, error=OutOfMemoryError("y"))
        failed(manager, None, ValueError("z"))
    died, named = seen[0][0][1], seen[1][1]["error"]
    assert isinstance(died, RayActorError) and isinstance(named, RayActorError)
    assert (str(died), str(named), type(seen[2][0][2])) == ("x", "y", ValueError)


def test_a_token_that_is_not_sent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where the user has one, and has not chosen a mode; Ray itself names neither."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(MODE, raising=False)
    assert internals.token_hint() == ""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x", "utf-8")
    assert internals.token_hint().endswith("~/.ray/auth_token, set RAY_AUTH_MODE=token")
    monkeypatch.setenv(MODE, "disabled")
    assert internals.token_hint() == ""


@pytest.mark.parametrize(
    ("variables", "file", "mode"),
    [
        ({}, True, "token"),
        ({TOKEN: "x"}, False, "token"),
        ({}, False, None),
        ({MODE: "disabled"}, True, "disabled"),
    ],
    ids=str,
)
def test_a_token_is_sent_to_a_cluster_if_the_user_has_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    file: bool,
    mode: str | None,
) -> None:
    """Ray's core reads the mode again at the beginning and at the end; a mode of the user stays."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if file:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("x", "utf-8")
    seen = list[str | None]()
    monkeypatch.setattr(
        internals, "_authentication_reader", lambda: lambda: seen.append(os.environ.get(MODE))
    )
    with internals.send_token():
        assert os.environ.get(MODE) == mode
    assert os.environ.get(MODE) == variables.get(MODE)
    assert seen == (["token", None] if mode == "token" else [])
