"""The study harness: YAML -> Ray Tune + Optuna + MLflow.

From Python:

    from harness import load_trained, plan_study, predict, run_study
    plan = plan_study("prompt_len", ["seeds=3", "save=true"])
    outcome = run_study("prompt_len", ["seeds=3", "save=true"])
    model = load_trained("runs:/RUN_ID")
    named = predict("prompt_len", "my_pictures", ["n_ctx=4"])
"""

import re
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.predictions import predict
    from harness.store import load_trained
    from harness.study import plan_study, run_study

_HOMES = {
    "load_trained": "store",
    "plan_study": "study",
    "predict": "predictions",
    "run_study": "study",
}
# options that are called otherwise in Python
_ARGUMENTS = {"set": "overrides", "plugin": "plugins", "no-reuse": "reuse=False"}
__all__ = ["load_trained", "plan_study", "predict", "run_study"]


def __getattr__(name: str) -> Any:
    """What Python calls, loaded when it is asked for: commands start light."""
    if name in _HOMES:
        return _in_own_words(getattr(import_module(f"harness.{_HOMES[name]}"), name))
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def _in_own_words(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function; its errors name its arguments, where those of a command name its options.

    In `ship-sweep --OPTION` they are a command's.
    """
    from harness.errors import UserError

    def argument(option: re.Match[str]) -> str:
        word = _ARGUMENTS.get(option[1], option[1].replace("-", "_"))
        return word if word.partition("=")[0] in signature(function).parameters else option[0]

    @wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        try:
            return function(*given, **named)
        except UserError as error:
            told = re.sub(r"(?<!ship-sweep )--([a-z]+(?:-[a-z]+)*)", argument, str(error))
            error.args = (told,)
            raise

    return called
