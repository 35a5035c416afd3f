"""The public Python API of ship-sweep in one module, and the entry points of its commands.

    from ship_sweep import load_study, run_study

    run_study("prompt_len", ["seeds=3"])
    print(load_study("prompt_len").estimates)

The packages `ship`, `harness` and `reports` are imported on first access.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from harness import load_trained, plan_study, predict, run_study
    from reports import LoadedStudy, load_studies, load_study
    from ship.datasets import DatasetScan, ImageFile, Split
    from ship.methods import Finetuner, Generator, SeedTask
    from ship.plugins import DatasetPlugin, FinetunerSettings, GeneratorSettings, MetricPlugin

_MODULES: Final = {
    "harness": ("load_trained", "plan_study", "predict", "run_study"),
    "reports": ("LoadedStudy", "load_studies", "load_study"),
    "ship.datasets": ("DatasetScan", "ImageFile", "Split"),
    "ship.methods": ("Finetuner", "Generator", "SeedTask"),
    "ship.plugins": ("DatasetPlugin", "FinetunerSettings", "GeneratorSettings", "MetricPlugin"),
}
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}
_PACKAGES: Final = ("harness", "reports", "search_spaces", "ship")

__all__ = [
    "DatasetPlugin",
    "DatasetScan",
    "Finetuner",
    "FinetunerSettings",
    "Generator",
    "GeneratorSettings",
    "ImageFile",
    "LoadedStudy",
    "MetricPlugin",
    "SeedTask",
    "Split",
    "load_studies",
    "load_study",
    "load_trained",
    "plan_study",
    "predict",
    "run_study",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first access, so that commands start quickly."""
    if name == "__version__":
        return version("ship-sweep")
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'ship_sweep' has no attribute {name!r}")


def find_installation_fault(platform: str = sys.platform) -> str:
    """Return a message if ship-sweep cannot run in this environment, or "".

    Windows is not supported. Other distributions may also have packages named `ship`, `harness` or
    `reports`, which Python may import instead.

    Args:
        platform: Name of the platform, as in `sys.platform`.

    Example:
        >>> find_installation_fault("win32")
        'ship-sweep does not run on Windows. Use Linux, macOS or WSL'
    """
    if platform == "win32":
        return "ship-sweep does not run on Windows. Use Linux, macOS or WSL"
    folder = Path(__file__).resolve().parent
    for name in _PACKAGES:
        spec = find_spec(name)
        origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve().parents[1] != folder:
            return (
                f"the package {name!r} that Python imports is not ship-sweep's ({origin}). "
                "Install ship-sweep into an environment of its own"
            )
    return ""


def _start(module: str) -> None:
    """Run the main function of a module, or print an installation fault and exit with 2."""
    if fault := find_installation_fault():
        sys.stderr.write(f"{fault}\n")
        sys.exit(2)
    import_module(module).main()


def sweep() -> None:
    """Run the command ship-sweep."""
    _start("harness.cli.main")


def report() -> None:
    """Run the command ship-report."""
    _start("reports.cli")


def data() -> None:
    """Run the command ship-data."""
    _start("harness.data.cli")
