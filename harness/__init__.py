"""The study harness: runs the study of a YAML with Ray Tune and Optuna, and logs it to MLflow.

From Python:

    from harness import load_trained, plan_study, predict, run_study
    plan = plan_study("prompt_len", ["seeds=3", "save_models=true"])
    outcome = run_study("prompt_len", ["seeds=3", "save_models=true"])
    model = load_trained("runs:/RUN_ID")
    predictions = predict("prompt_len", "my_images", ["n_ctx=4"])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.cli.predictions import predict
    from harness.study import plan_study, run_study
    from harness.trained import load_trained

# public function -> its module in this package
_MODULES = {
    "load_trained": "trained",
    "plan_study": "study",
    "predict": "cli.predictions",
    "run_study": "study",
}
__all__ = ["load_trained", "plan_study", "predict", "run_study"]


def __getattr__(name: str) -> Any:
    """Import a public function on first access, so that commands start quickly."""
    if name in _MODULES:
        return getattr(import_module(f"harness.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
