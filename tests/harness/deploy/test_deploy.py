"""The recipes of harness/deploy: printed as they are, valid, and true to ship-sweep's options."""

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
from harness.config import Resources
from harness.config.load import load_study
from harness.deploy import FILES, FOLDER
from harness.errors import address_fault
from harness.ray.extract import decoding_threads
from harness.resources import at_once, resolved_resources

ROOT = Path(__file__).parents[3]
KUBERAY = ["kuberay", "kuberay-cluster"]
TOKENS_SINCE = (2, 52)  # before it, Ray has no authentication


def text_of(name: str) -> str:
    """A recipe's text."""
    return (FOLDER / FILES[name]).read_text(encoding="utf-8")


def manifest(name: str) -> Any:
    """A YAML recipe."""
    return YAML(typ="safe").load(text_of(name))


def commands(text: str) -> Iterator[list[str]]:
    """Each ship-sweep command line in a recipe, in comments, too, as words.

    It goes on after a backslash, ends with the line, a pipe or a redirection; a YAML scalar that
    is folded has to be given as one line.
    """
    joined = re.sub(r"\\\n[#\s]*", " ", text)
    command = r"(?:ship-sweep|sbatch study\.sbatch)((?:\s+-|\s+\"?\$)[^\n|>`]*)"
    for found in re.finditer(command, joined):
        words = found.group(1).partition(" #")[0].partition("&&")[0].replace("'", "")
        yield shlex.split(words)


def all_commands() -> list[tuple[str, list[str]]]:
    """(recipe, words) of every command; the entrypoint of a job, too."""
    found = [(name, words) for name in FILES for words in commands(text_of(name))]
    found += [("kuberay", shlex.split(manifest("kuberay")["spec"]["entrypoint"])[1:])]
    (slurm,) = re.findall(r"^arguments=\((.*)\)$", text_of("slurm"), re.M)
    return [*found, ("slurm", shlex.split(slurm))]


def containers(name: str) -> list[Any]:
    """Every container of a manifest."""
    pods = [group["template"]["spec"] for group in groups(name)]
    job = manifest(name)["spec"].get("submitterPodTemplate")
    return [c for pod in [*pods, *([job["spec"]] if job else [])] for c in pod["containers"]]


def cluster(name: str) -> Any:
    """The cluster's part of a manifest."""
    spec = manifest(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def groups(name: str) -> list[Any]:
    """The head's group and those of the workers."""
    return [cluster(name)["headGroupSpec"], *cluster(name)["workerGroupSpecs"]]


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_is_printed_as_it_is(name: str) -> None:
    """--deploy writes the file and nothing else, so that it can be redirected."""
    result = CliRunner().invoke(cli.app, ["--deploy", name])
    assert (result.exit_code, result.stdout, result.stderr) == (0, text_of(name), "")


def test_every_file_is_a_recipe_and_is_packaged() -> None:
    """Nothing lies in the folder that --deploy does not print or that pip would leave behind."""
    there = {path.name for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py"}
    assert there == set(FILES.values())
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "harness*" in setup["packages"]["find"]["include"]
    patterns = setup["package-data"]["harness.deploy"]
    assert all(any(Path(name).match(pattern) for pattern in patterns) for name in there)


def test_every_option_and_override_in_a_recipe_exists() -> None:
    """In comments as in what is run: --set names keys of a study, --address what may be given."""
    known = {o for p in typer.main.get_command(cli.app).params for o in p.opts}
    found = all_commands()
    assert {name for name, _ in found} == set(FILES)
    overrides = set()
    for name, words in found:
        options = {word.partition("=")[0] for word in words if word.startswith("--")} - {"--"}
        assert options <= known, (name, words)
        given = dict(itertools.pairwise(words))
        assert given.get("--deploy", "NAME") in {*FILES, "NAME"}, (name, words)
        address = given.get("--address", "auto")
        assert address.startswith("$") or address == "ray://..." or not address_fault(address)
        overrides |= {value for word, value in itertools.pairwise(words) if word == "--set"}
    assert {"resources.gpus=1", "resources.cpus=4", "shots=4"} <= overrides
    load_study("prompt_len", sorted(overrides), None)


@pytest.mark.parametrize("name", KUBERAY)
def test_manifests_fit_kuberays_schema(name: str) -> None:
    """Every field is one that KubeRay and Kubernetes know, and has the right type."""
    schema = json.loads((Path(__file__).parent / "kuberay_schema.json").read_text())
    document = manifest(name)
    check = jsonschema.Draft7Validator(
        {**schema, "allOf": [{"$ref": f"#/kinds/{document['kind']}"}]}
    )
    assert not [f"{list(e.path)}: {e.message}" for e in check.iter_errors(document)]
    document["spec"]["sloth"] = 1  # and the schema does refuse
    assert not check.is_valid(document)


@pytest.mark.parametrize("name", KUBERAY)
def test_manifests_are_safe(name: str) -> None:
    """Nobody is root, requests are limits, the tracking URI is a secret, Ray asks for a token."""
    for container in containers(name):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        for variable in container.get("env", []):
            if variable["name"] == "MLFLOW_TRACKING_URI":
                assert "secretKeyRef" in variable["valueFrom"]
    assert "secretKeyRef" in text_of(name) and cluster(name)["authOptions"] == {"mode": "token"}
    for group in groups(name):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounted == {v["name"] for v in pod["volumes"] if "persistentVolumeClaim" in v}


@pytest.mark.parametrize("name", KUBERAY)
def test_manifests_fit_together(name: str) -> None:
    """One image, with the Ray that is named and asked for; GPUs on workers alone, all there."""
    version = cluster(name)["rayVersion"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {c["image"].partition(":")[2] for c in containers(name)} == {
        f"{project['version']}-ray{version}"
    }
    (least,) = (re.search(r">=([\d.]+)", d) for d in project["dependencies"] if "ray[" in d)
    assert least is not None
    numbers = tuple(map(int, version.split(".")))
    assert numbers >= max(TOKENS_SINCE, tuple(map(int, least.group(1).split("."))))
    head, *workers = groups(name)
    assert head["rayStartParams"] == {"num-cpus": "0"}
    assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]
    for group in workers:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert int(limits["nvidia.com/gpu"]) > 0
        assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]


def test_the_job_ends_with_its_cluster() -> None:
    """Pods do not outlive the study, whose trials and datasets fit what workers have."""
    spec = manifest("kuberay")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True and spec["ttlSecondsAfterFinished"] > 0
    words = shlex.split(spec["entrypoint"])
    assert words[0] == "ship-sweep" and words[words.index("--address") + 1] == "auto"
    (mount,) = containers("kuberay")[0]["volumeMounts"]
    for option in ("--data-root", "--cache-dir"):
        assert words[words.index(option) + 1].startswith(mount["mountPath"] + "/")
    sets = dict(word.split("=") for word in words if word.startswith("resources."))
    limits = containers("kuberay")[1]["resources"]["limits"]
    assert float(sets["resources.cpus"]) <= float(limits["cpu"])
    assert float(sets["resources.gpus"]) <= float(limits["nvidia.com/gpu"])


@pytest.mark.parametrize("name", KUBERAY)
def test_actors_that_extract_find_what_they_need_on_workers(name: str) -> None:
    """The head, which has no GPU, gives Ray no core: pictures are decoded by cores of GPU pods.

    Each pod sees the weights and the datasets under the same path.
    """
    head, *workers = groups(name)
    assert head["rayStartParams"]["num-cpus"] == "0"
    homes, mounts = set(), set()
    for group in (head, *workers):
        (container,) = group["template"]["spec"]["containers"]
        homes.add({one["name"]: one.get("value") for one in container["env"]}["HF_HOME"])
        mounts |= {mount["mountPath"] for mount in container["volumeMounts"]}
    ((home,), (mount,)) = homes, mounts
    assert str(home).startswith(f"{mount}/")
    for group in workers:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        gpus, cores = int(limits["nvidia.com/gpu"]), float(limits["cpu"])
        there = [{"CPU": cores, "GPU": gpus}]
        taken = resolved_resources(Resources(), there)
        assert at_once(taken, there) == gpus
        assert decoding_threads(taken, cores, gpus) == cores / gpus >= 8


def test_ray_up_passes_rays_own_validator() -> None:
    """As `ray up` validates and prepares it; all machines are kept from the start."""
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ray.scripts.scripts import start

    config = manifest("ray-up")
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = len(config["provider"]["worker_ips"])
    (node,) = prepared["available_node_types"].values()
    assert node["min_workers"] == node["max_workers"] == prepared["max_workers"] == workers
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        command = config[key][-1]
        assert command.startswith("RAY_AUTH_MODE=token ray start ")
        known = {option for parameter in start.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in shlex.split(command)[3:]} <= known
