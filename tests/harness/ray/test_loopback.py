"""Only the user of a study on one machine can reach its Ray session."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.ray.patches import MODE, TOKEN, TOKEN_PATH, _make_authentication_reader, private_ray
from tests.harness.conftest import Bench
from tests.harness.processes import (
    find_listening_sockets,
    get_environment,
    get_program,
    is_loopback,
    list_descendants,
)
from tests.harness.study.drivers import Driver


@pytest.fixture(autouse=True)
def no_authentication() -> Iterator[None]:
    """Unset all authentication variables, and make Ray's core read them again at the end.

    Otherwise Ray's core could require a token in later tests, whose session has none.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in (MODE, TOKEN, TOKEN_PATH):
            patch.delenv(name, raising=False)
        yield
    read_again = _make_authentication_reader()
    assert read_again is not None
    read_again()


def test_each_session_has_its_own_token() -> None:
    """Ray requires the token, which has 256 random bits and is removed afterwards."""
    from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode

    tokens = []
    for _ in range(2):
        with private_ray():
            assert get_authentication_mode() == AuthenticationMode.TOKEN
            tokens.append(AuthenticationTokenLoader.instance().get_raw_token())
            assert os.environ[TOKEN] == tokens[-1]
            assert len(bytes.fromhex(tokens[-1])) == 32
        assert get_authentication_mode() == AuthenticationMode.DISABLED
        assert MODE not in os.environ
        assert TOKEN not in os.environ
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize(
    "variables",
    [
        {MODE: "disabled"},
        {MODE: "Disabled", TOKEN: "user"},
        {TOKEN: "user"},
        {TOKEN_PATH: "/somewhere/token"},
        {MODE: "token", TOKEN: "user"},
        {MODE: "token"},
    ],
    ids=str,
)
def test_users_token_and_mode_are_kept(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session does not change them, and nor does its end."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with private_ray():
        assert {name: os.environ.get(name) for name in variables} == variables
        assert os.environ.get(MODE, "") == variables.get(MODE, "token")
        # A token is created if the mode requires one and the user has none.
        assert (TOKEN in os.environ) == (TOKEN in variables or variables == {MODE: "token"})
    assert {name: os.environ.get(name) for name in variables} == variables
    assert {MODE, TOKEN} & set(os.environ) == {MODE, TOKEN} & set(variables)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="reads /proc")
def test_study_listens_only_on_loopback(bench: Bench, tmp_path: Path) -> None:
    """No process accepts connections from other hosts, and no token file is created."""
    home = tmp_path / "home"
    home.mkdir()
    driver = Driver(bench, 0.5, HOME=str(home))
    sockets: dict[tuple[str, int], str] = {}
    tokens = set()
    while driver.process.poll() is None:
        pids = list_descendants(driver.process.pid)
        # The first command line of a process is kept, because it is empty after its end.
        sockets = find_listening_sockets(pids) | sockets
        tokens |= {
            get_environment(pid).get(TOKEN, "") for pid in pids if "gcs_server" in get_program(pid)
        }
        time.sleep(0.2)
    code, output = driver.end()
    assert code == 0, output
    for service in ("gcs_server", "raylet", "ray::"):
        assert any(service in line for line in sockets.values()), (service, sockets)
    exposed = {
        (address, port): line
        for (address, port), line in sockets.items()
        if not is_loopback(address)
    }
    assert not exposed
    assert [len(token) for token in tokens] == [64]
    assert not (home / ".ray").exists()
