"""Private names of Ray are used in one file, and a study runs without them."""

import os
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from unittest.mock import Mock

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from harness.ray import patches
from harness.ray.patches import MODE, TOKEN, TOKEN_PATH, private_ray
from tests.case_files import load_cases
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study

NAMES = load_cases(__file__, "ray_names.yaml")


@pytest.mark.weekly
def test_study_runs_without_rays_private_names(
    ray_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No token is set that Ray's core would not read."""
    for name in (MODE, TOKEN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(patches, "resolve_name", Mock(side_effect=AttributeError))
    with private_ray():
        assert not {MODE, TOKEN} & set(os.environ)
    outcome = ray_bench.run(make_study(space={"generator.n_ctx": [1, 2]}, seeds=1))
    assert outcome.complete
    assert ray_bench.states() == ["COMPLETE"] * 2
    ray_bench.check_invariants()


@pytest.mark.parametrize("name", NAMES["expected"])
def test_installed_ray_has_every_private_name(name: str) -> None:
    """With the installed Ray, every workaround is active."""
    resolve_name(name)


def test_token_is_not_reread_if_ray_cannot_forget_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Ray without one of the names keeps its default behavior."""

    def resolve(name: str) -> Any:
        if name.endswith("reset_cache"):
            raise AttributeError(name)
        return Mock(spec=["__call__"], return_value=Mock(spec=[]))

    monkeypatch.setattr(patches, "resolve_name", resolve)
    monkeypatch.delenv(MODE, raising=False)
    with private_ray():
        assert MODE not in os.environ


def test_all_processes_are_killed_however_ray_passes_its_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By position or by name."""
    from ray._private.node import Node

    seen: list[dict[str, bool]] = []
    monkeypatch.setattr(Node, "kill_all_processes", lambda node, **keys: seen.append(keys))
    node: Any = Mock(live_processes=list)
    with patches.kill_all_at_shutdown():
        kill_all: Any = Node.kill_all_processes
        kill_all(node, check_alive=True, allow_graceful=True)
        kill_all(node, True, True)
    assert seen == [{"check_alive": False, "allow_graceful": False}] * 2


def test_memory_kill_is_converted_in_any_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune gets a death in any argument position, and other errors unchanged."""
    from ray.air.execution._internal.actor_manager import RayActorManager

    seen: list[Any] = []
    monkeypatch.setattr(
        RayActorManager, "_actor_task_failed", lambda *args, **keys: seen.append((args, keys))
    )
    manager: Any = object()
    with patches.report_memory_kills_as_deaths():
        failed: Any = RayActorManager._actor_task_failed
        failed(manager, OutOfMemoryError("x"))
        failed(manager, error=OutOfMemoryError("y"))
        failed(manager, None, ValueError("z"))
    died, named = seen[0][0][1], seen[1][1]["error"]
    assert isinstance(died, RayActorError) and isinstance(named, RayActorError)
    assert (str(died), str(named), type(seen[2][0][2])) == ("x", "y", ValueError)


def test_unsent_token_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only if the user has a token and has not set a mode; Ray's own error names neither."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(MODE, raising=False)
    assert patches.make_token_hint() == ""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x", "utf-8")
    assert patches.make_token_hint().endswith("~/.ray/auth_token, set RAY_AUTH_MODE=token")
    monkeypatch.setenv(MODE, "disabled")
    assert patches.make_token_hint() == ""


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
def test_users_token_is_sent_to_a_cluster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    file: bool,
    mode: str | None,
) -> None:
    """Ray's core reads the mode at the start and the end; a mode of the user is kept."""
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
        patches, "_make_authentication_reader", lambda: lambda: seen.append(os.environ.get(MODE))
    )
    with patches.send_token():
        assert os.environ.get(MODE) == mode
    assert os.environ.get(MODE) == variables.get(MODE)
    assert seen == (["token", None] if mode == "token" else [])
