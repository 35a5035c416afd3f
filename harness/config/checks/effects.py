"""Factors that no setting of a study reads, and warm-ups that last too long to matter."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.config.checks.settings import Setting, place_of
from harness.config.factor import Factor
from harness.config.study_config import StudyConfig
from harness.errors import Fault


def dead_faults(space: Mapping[str, Factor], settings: Sequence[Setting]) -> list[Fault]:
    """A factor whose conditions never hold together would silently not be studied."""
    must = "must be met by some setting: its conditions exclude each other"
    met = {key for setting in settings for key in setting.assignment}
    return [Fault(f"space.{key}.when", must) for key in space if key not in met]


def effect_faults(space: Mapping[str, Factor], settings: Sequence[Setting]) -> Iterator[Fault]:
    """A factor must be read by some setting that it is there in.

    Args:
        space: the study's factors.
        settings: that it spans.
    """
    for key in space:
        beside = [setting for setting in settings if key in setting.assignment]
        reasons = [setting.trial.unread_reason(key) for setting in beside]
        if beside and all(reasons):
            why = "; ".join(dict.fromkeys(map(str, reasons)))
            yield Fault(f"space.{key}", f"must have an effect: {why}")
        elif key.partition(".")[0] in ("generator", "finetuner"):
            yield from _condition_faults(key, space, beside)


def _condition_faults(
    key: str, space: Mapping[str, Factor], beside: Sequence[Setting]
) -> Iterator[Fault]:
    """Where another setting of the same method decides what is read, a condition must say so.

    Args:
        key: of a factor of a method.
        space: the study's factors.
        beside: the settings that the factor is there in.
    """
    group = key.partition(".")[0]
    for other in (name for name in space if name.startswith(f"{group}.") and name != key):
        if any(other not in setting.assignment for setting in beside):
            continue  # a condition would take away what has an effect
        reasons: dict[Any, list[str | None]] = {}
        for setting in beside:
            reason = getattr(setting.trial, group).unread_reason(key)
            reasons.setdefault(setting.assignment[other], []).append(reason)
        unread = [reason for own in reasons.values() if all(own) for reason in own]
        if unread:
            why = "; ".join(dict.fromkeys(map(str, unread)))
            levels = ", ".join(str(level) for level, own in reasons.items() if not all(own))
            yield Fault(f"space.{key}", f'must have "when: {{{other}: [{levels}]}}": {why}')


def warmup_faults(
    study: StudyConfig, settings: Sequence[Setting]
) -> Iterator[tuple[Setting, Fault]]:
    """A KL warm-up as long as the training would leave kl_weight unreached."""
    if "generator.epochs" in study.space:
        return
    for setting in settings:
        generator, key = setting.trial.generator, "generator.kl_warmup"
        warmup, epochs = getattr(generator, "kl_warmup", None), getattr(generator, "epochs", None)
        if not isinstance(warmup, int) or not isinstance(epochs, int):  # a plugin's may be anything
            continue
        if warmup >= epochs and not generator.unread_reason(key):
            path = place_of(study, setting, "generator.epochs")
            must = f"must be < {path}, which is {epochs}: kl_weight is never reached"
            yield setting, Fault(key, must, warmup)
