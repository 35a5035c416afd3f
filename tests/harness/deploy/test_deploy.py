"""The recipes of harness/deploy are printed unchanged, valid, and use existing options."""

import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from ruamel.yaml import YAML
from typer.testing import CliRunner

from harness.cli import main as cli
from harness.cli.commands import PREFETCH_STEPS
from harness.config.load import load_study
from harness.deploy import FILES, FOLDER
from harness.errors import find_ray_address_fault

ROOT = Path(__file__).parents[3]
MIN_RAY = (2, 52)  # the first version with authentication


def read_recipe(name: str) -> str:
    """Return the text of a recipe."""
    return (FOLDER / FILES[name]).read_text(encoding="utf-8")


@pytest.fixture
def job() -> Any:
    """Return the RayJob manifest."""
    return YAML(typ="safe").load(read_recipe("kuberay"))


def find_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each ship-sweep command line of a recipe, including those in comments.

    A command continues after a backslash, and ends with the line, a pipe or a redirection. It must
    not be in a folded YAML scalar.
    """
    joined = re.sub(r"\\\n[#\s]*", " ", text)
    command = r"(?:ship-sweep|sbatch study\.sbatch)(\s+(?:-|\"?\$|deploy |prefetch )[^\n|>`]*)"
    for match in re.finditer(command, joined):
        words = match.group(1).partition(" #")[0].partition("&&")[0].replace("'", "")
        yield shlex.split(words)


def find_all_commands(job: Any) -> list[tuple[str, list[str]]]:
    """Return recipe and words of each command, including the entrypoint of the RayJob."""
    commands_of_files = [
        (name, words) for name in FILES for words in find_commands(read_recipe(name))
    ]
    commands_of_files += [("kuberay", shlex.split(job["spec"]["entrypoint"])[1:])]
    (slurm,) = re.findall(r"^arguments=\((.*)\)$", read_recipe("slurm"), re.M)
    return [*commands_of_files, ("slurm", shlex.split(slurm))]


def list_options(command: Any) -> set[str]:
    """Return the options of a typer command."""
    return {option for param in command.params for option in param.opts}


def list_groups(job: Any) -> list[Any]:
    """Return the groups of the head and of the workers."""
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def list_containers(job: Any) -> list[Any]:
    """Return the containers of head, workers and submitter."""
    pods = [group["template"]["spec"] for group in list_groups(job)]
    pods.append(job["spec"]["submitterPodTemplate"]["spec"])
    return [container for pod in pods for container in pod["containers"]]


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_is_printed_unchanged(name: str) -> None:
    """`ship-sweep deploy` prints nothing else, so that its output can be redirected to a file."""
    result = CliRunner().invoke(cli.app, ["deploy", name])
    assert (result.exit_code, result.stdout, result.stderr) == (0, read_recipe(name), "")


def test_every_file_is_a_recipe_and_is_packaged() -> None:
    """`ship-sweep deploy` can print each file of the folder, and the wheel contains all of them."""
    file_names = {path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"}
    assert file_names == set(FILES.values())
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "harness*" in setup["packages"]["find"]["include"]
    patterns = setup["package-data"]["harness.deploy"]
    assert all(any(Path(name).match(pattern) for pattern in patterns) for name in file_names)


def test_every_option_and_override_in_a_recipe_exists(job: Any) -> None:
    """Keys of `--set` and values of `--address` are valid, too. Comments are included."""
    group = typer.main.get_command(cli.app)
    options = {name: list_options(command) for name, command in group.commands.items()}
    recipe_commands = find_all_commands(job)
    assert {name for name, _ in recipe_commands} == set(FILES)
    assert {"deploy", "prefetch"} <= {words[0] for _, words in recipe_commands}
    overrides = set()
    for name, words in recipe_commands:
        used = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--"}
        assert used <= options.get(words[0], list_options(group)), (name, words)
        arguments = dict(itertools.pairwise(words))
        assert arguments.get("deploy", "NAME") in {*FILES, "NAME"}, (name, words)
        assert arguments.get("prefetch", "downloads") in PREFETCH_STEPS, (name, words)
        address = arguments.get("--address", "auto")
        assert (
            address.startswith("$") or address == "ray://..." or not find_ray_address_fault(address)
        )
        overrides |= {value for word, value in itertools.pairwise(words) if word == "--set"}
    assert {"resources.gpus=1", "resources.cpus=4", "shots=4"} <= overrides
    load_study("prompt_len", sorted(overrides), None)


def test_the_manifest_matches_kuberays_schema(job: Any) -> None:
    """KubeRay and Kubernetes have each of its fields, with the same type."""
    schema = json.loads((Path(__file__).parent / "kuberay_schema.json").read_text())
    check = jsonschema.Draft7Validator(schema)
    assert not [f"{list(e.path)}: {e.message}" for e in check.iter_errors(job)]
    job["spec"]["sloth"] = 1  # an unknown field
    assert not check.is_valid(job)


def test_the_manifest_is_safe(job: Any) -> None:
    """No container is root, the tracking URI is in a secret, and Ray requires a token.

    Containers request as many resources as they may use.
    """
    for container in list_containers(job):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"] == container["resources"]["limits"]
    head, *workers = list_groups(job)
    for group in (head, *workers):
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
    env = {
        variable["name"]: variable for variable in head["template"]["spec"]["containers"][0]["env"]
    }
    assert "secretKeyRef" in env["MLFLOW_TRACKING_URI"]["valueFrom"]
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_all_containers_have_an_image_with_the_manifests_ray(job: Any) -> None:
    """The image's tag contains the versions of ship-sweep and Ray."""
    version = job["spec"]["rayClusterSpec"]["rayVersion"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {container["image"].partition(":")[2] for container in list_containers(job)} == {
        f"{project['version']}-ray{version}"
    }
    (minimum,) = (re.search(r">=([\d.]+)", d) for d in project["dependencies"] if "ray[" in d)
    assert minimum is not None
    numbers = tuple(map(int, version.split(".")))
    assert numbers >= max(MIN_RAY, tuple(map(int, minimum.group(1).split("."))))
