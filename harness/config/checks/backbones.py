"""Backbones that a study names: they can be loaded, and have room for contexts and layers."""

from collections.abc import Iterator, Sequence

from harness.config.checks.settings import Setting
from harness.errors import Fault
from ship.architectures import BackboneError, text_settings


def backbone_faults(settings: Sequence[Setting]) -> Iterator[tuple[Setting, Fault]]:
    """Unknown backbones; contexts that leave a prompt no room for SOT, a class name and EOT; blocks
    of the text tower that are not there.
    """
    reasons: dict[str, str] = {}
    for setting in settings:
        name = setting.trial.backbone
        if name not in reasons:
            reasons[name] = _unfit(name)
        if reasons[name]:
            yield setting, Fault("backbone", reasons[name])
            continue
        text = text_settings(name)
        for group in ("generator", "finetuner"):
            most, given = text.context_length - 3, getattr(setting.trial, group)
            n_ctx = getattr(given, "n_ctx", 0)
            if isinstance(n_ctx, int) and n_ctx > most:
                must = f"must be at most {most} for backbone {name}"
                yield setting, Fault(f"{group}.n_ctx", must, n_ctx)
        layer = getattr(setting.trial.finetuner, "layer", None)
        if isinstance(layer, int) and layer >= text.layers:
            must = f"must be 1 to {text.layers - 1} for backbone {name}"
            must += f", whose text tower has {text.layers} blocks"
            yield setting, Fault("finetuner.layer", must, layer)


def _unfit(name: str) -> str:
    """Why a backbone cannot be loaded, in words; "" where it can."""
    if name == "pocket":  # packaged: spares the seconds that importing the towers takes
        return ""
    from ship.clip import check_backbone_name

    try:
        check_backbone_name(name)
    except BackboneError as error:
        reason = str(error)
        return reason if reason.startswith("must") else f"must load: {reason}"
    return ""
