"""What the packages must not call: anything that turns data into code, or a text into a command."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for name in ("ship", "harness", "reports") for path in (ROOT / name).rglob("*.py")]

# Whatever its arguments are.
NEVER = {
    "eval", "exec", "compile", "__import__",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads",
    "dill.load", "dill.loads", "joblib.load", "shelve.open", "marshal.load", "marshal.loads",
    "pandas.read_pickle", "torch.package.PackageImporter",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.full_load_all",
    "ruamel.yaml.load", "ruamel.yaml.load_all", "ruamel.yaml.unsafe_load", "ruamel.yaml.main.YAML",
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "tempfile.mktemp", "xml.etree.ElementTree.parse", "xml.etree.ElementTree.fromstring",
}  # fmt: skip
# Only with these, written out.
ONLY_WITH = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "ruamel.yaml.YAML": ("typ", "safe"),  # others build objects, or keep the tags that name them
}
# In one place each, which says why.
EXCEPT = {
    ("ship/clip/weights_file.py", "torch.jit.load"),  # OpenAI's weights are TorchScript archives
    # it crashes the interpreter on damaged files: here it gets only what has been looked through
    ("ship/datasets/mat_file.py", "scipy.io.loadmat"),
}
ONLY_THERE = {"torch.jit.load", "scipy.io.loadmat"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call by its full dotted name, imports and their aliases looked through."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name if alias.asname else alias.name.partition(".")[0]
                names[alias.asname or top] = top
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            head, dot, rest = ast.unparse(node.func).partition(".")
            yield f"{names.get(head, head)}{dot}{rest}", node


def faults(source: str, file: str) -> list[str]:
    """What a file calls and must not."""
    found = []
    for name, call in calls(ast.parse(source)):
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        wanted = ONLY_WITH.get(name)
        shell = given.get("shell")
        if name in NEVER or (name in ONLY_THERE and (file, name) not in EXCEPT):
            found.append(f"{file}:{call.lineno}: {name}")
        elif wanted is not None:
            value = given.get(wanted[0])
            if not isinstance(value, ast.Constant) or value.value != wanted[1]:
                found.append(f"{file}:{call.lineno}: {name} without {wanted[0]}={wanted[1]}")
        if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            found.append(f"{file}:{call.lineno}: {name} with a shell")
        # of a wheel: zipfile leaves out what would leave the folder
        if name.endswith(".extractall") and name != "wheel.extractall" and "filter" not in given:
            found.append(f"{file}:{call.lineno}: {name} without a filter")
    return found


def test_no_source_turns_data_into_code() -> None:
    """No pickle is read, no YAML builds objects, no text is run, no shell is asked."""
    assert len(SOURCES) > 100
    found = []
    for path in SOURCES:
        found += faults(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "from pickle import loads as read\nread(b)",
        "import torch as t\nt.load(p)",
        "import torch\ntorch.load(p, weights_only=False)",
        "import torch\ntorch.load(p, weights_only=flag)",
        "import torch.jit\ntorch.jit.load(p)",
        "import numpy as np\nnp.load(p)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import yaml\nyaml.load(t, Loader=yaml.SafeLoader)",
        "from yaml import unsafe_load\nunsafe_load(t)",
        "from ruamel.yaml import YAML\nYAML(typ='unsafe').load(t)",
        "from ruamel.yaml import YAML\nYAML(typ='full')",
        "from ruamel.yaml import YAML as Y\nY(typ=kind)",
        "import ruamel.yaml\nruamel.yaml.YAML()",
        "from ruamel.yaml.main import YAML\nYAML(typ='safe')",
        "import ruamel.yaml as y\ny.unsafe_load(t)",
        "eval(t)",
        "import subprocess\nsubprocess.run(c, shell=True)",
        "import subprocess as s\ns.Popen(c, shell=flag)",
        "import os\nos.system(c)",
        "from scipy.io import loadmat\nloadmat(p)",
        "import scipy.io\nscipy.io.loadmat(p)",
        "def f(tar):\n    tar.extractall(p)",
    ],
)
def test_the_search_finds_each(source: str) -> None:
    """A call is found under whatever name it was imported."""
    assert len(faults(source, "x.py")) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(p, weights_only=True)",
        "import numpy as np\nnp.load(p, allow_pickle=False)",
        "import yaml\nyaml.safe_load(t)",
        "from ruamel.yaml import YAML\nYAML(typ='safe', pure=True).load(t)",
        "model.eval()",
        "import subprocess\nsubprocess.run(['a'])",
        "import re\nre.compile(t)",
    ],
)
def test_the_search_leaves_the_rest_alone(source: str) -> None:
    """What reads data as data is no fault."""
    assert not faults(source, "x.py")
