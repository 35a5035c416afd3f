"""Checks that a setting is there and is read: one that nothing reads would be studied in vain."""

from collections.abc import Mapping
from typing import Any

from harness.config.factor import Factor, is_among
from harness.config.factors import FIELDS, GROUPS, indexed, own_settings
from harness.errors import Fault
from ship.trial_config import TrialConfig

# zero_shot trains nothing, but what a generator makes beside it is still judged
_ZERO_SHOT_TAKES = (
    "backbone", "precision", "image_precision", "dataset", "targets", "max_classes", "unseen_class",
    "shots", "views",
    "generator", "finetuner", "quality",
)  # fmt: skip
# of a VAE's settings, those that its latent code alone reads
_POSTERIOR = (
    "kl_weight", "kl_warmup", "free_bits", "latent_dim", "encoder_hidden", "generator_hidden",
)  # fmt: skip
# those that the code of a picture alone reads
_CODE = ("kl_weight", "kl_warmup", "free_bits", "encoder_hidden")
_CACHED = ("tip_adapter", "tip_adapter_f", "gda", "lp_plus_plus")
_STEPWISE = ("synthetic.ratio", "synthetic.draw")


def names_beside(
    group: str, key: str, space: Mapping[str, Factor], constants: Any
) -> tuple[str, ...]:
    """The variants of a group beside which a factor is there.

    Args:
        group: generator or finetuner, say; varied or constant.
        key: of the factor, whose `when` may leave it only some of the group's levels.
        space: the study's factors.
        constants: as the YAML gives them; may be faulty themselves.

    Returns:
        Names of variants; none where the group is neither varied nor a mapping with a name.
    """
    if group in space:
        levels = space[group].choices or ()
        when = space[key].when.get(group)
        names = [name for name in levels if when is None or is_among(name, when)]
    else:
        inside = constants.get(group)
        names = [inside.get("name")] if isinstance(inside, dict) else []
    return tuple(name for name in names if isinstance(name, str))


def owner_faults(key: str, space: Mapping[str, Factor], constants: Any) -> list[Fault]:
    """A factor must be a setting of every variant beside which it is there, and must matter.

    Args:
        key: of the factor.
        space: the study's factors.
        constants: as the YAML gives them; may be faulty themselves.

    Returns:
        One fault at most.
    """
    group, _, leaf = key.partition(".")
    owners = FIELDS[key].owners
    if leaf and "" not in owners:
        names = [
            name for name in names_beside(group, key, space, constants) if name in GROUPS[group]
        ]
        lacking = [name for name in names if name not in owners]
        if lacking and group in space:
            having = ", ".join(owners)
            must = f'must have "when: {{{group}: [{having}]}}": {", ".join(lacking)} has no {leaf}'
            return [Fault(f"space.{key}", must)]
    reason = _no_effect(key, space, constants)
    if reason is None and group == "generator":
        return _prompt_faults(key, space, constants)
    return [Fault(f"space.{key}", f"must have an effect: {reason}")] if reason else []


def _no_effect(key: str, space: Mapping[str, Factor], constants: Mapping[str, Any]) -> str | None:
    """Why varying a factor would change nothing under the study's constants, or None."""

    def constant(group: str) -> Any:
        inside = constants.get(group, TrialConfig.model_fields[group].default)
        inside = inside.get("name") if isinstance(inside, dict) else inside
        return None if group in space else inside

    taken = key.partition(".")[0] in _ZERO_SHOT_TAKES
    if constant("finetuner") == "zero_shot" and not taken:
        return "finetuner zero_shot trains nothing"
    if constant("finetuner") == "tip_adapter" and key == "synthetic.weight":
        return "finetuner tip_adapter trains nothing that a weight could weigh"
    if constant("generator") == "none" and key.startswith("synthetic."):
        return "generator none makes no synthetic features"
    if key == "quality":
        return "it is whether synthetic features are judged, and moves no accuracy"
    if key == "eval_every" and constant("finetuner") in ("tip_adapter", "gda"):
        return f"finetuner {constant('finetuner')} has no epochs"
    if key == "eval_every" and constant("selection") in ("none", "reference"):
        return f"selection {constant('selection')} looks at no epoch but the last"
    if key == "synthetic.per_class" and _draws_fresh(constant("finetuner"), space, constants):
        return f"finetuner {constant('finetuner')} draws fresh features (synthetic.draw: fresh)"
    if constant("finetuner") in _CACHED and key in _STEPWISE:
        return f"finetuner {constant('finetuner')} holds one fixed set of synthetic features"
    if key == "pseudo_new_fraction" and constant("selection") not in (None, "pseudo_new"):
        return f"selection {constant('selection')} holds out no classes"
    return None


def _prompt_faults(key: str, space: Mapping[str, Factor], constants: Any) -> list[Fault]:
    """A VAE's setting must be read under every prompt beside which the factor is there."""
    if key == "generator.prompt" or names_beside("generator", key, space, constants) != ("vae",):
        return []  # beside another generator it has an effect, which a condition would take away
    if "generator.prompt" not in space:
        inside = constants.get("generator")
        prompt = inside.get("prompt") if isinstance(inside, dict) else None
        reason = None if "generator" in space else _ignored(key, prompt)
        return [Fault(f"space.{key}", f"must have an effect: {reason}")] if reason else []
    levels = space["generator.prompt"].choices or ()
    when = space[key].when.get("generator.prompt", levels)
    met = [level for level in levels if is_among(level, when)]
    reasons = {level: reason for level in met if (reason := _ignored(key, level))}
    if not reasons:
        return []
    why = "; ".join(reasons.values())
    reading = [str(level) for level in levels if not _ignored(key, level)]
    if not reading:
        return [Fault(f"space.{key}", f"must have an effect: {why}")]
    must = f'must have "when: {{generator.prompt: [{", ".join(reading)}]}}": {why}'
    return [Fault(f"space.{key}", must)]


def _ignored(key: str, prompt: Any) -> str | None:
    """Why a VAE with this prompt does not read a setting, or None."""
    if prompt == "fixed" and key not in ("generator.ctx_init", "generator.name_position"):
        return "prompt fixed learns nothing"
    if prompt == "global" and key.removeprefix("generator.") in _POSTERIOR:
        return "prompt global has no latent code"
    if prompt == "noise" and key.removeprefix("generator.") in _CODE:
        return "prompt noise has no code of the picture"
    return None


def _draws_fresh(finetuner: Any, space: Mapping[str, Factor], constants: Any) -> bool:
    """Whether a constant fine-tuner takes fresh synthetic features at each step."""
    if finetuner is None or finetuner in _CACHED or "synthetic.draw" in space:
        return False
    synthetic = constants.get("synthetic")
    drawn = synthetic.get("draw", "fresh") if isinstance(synthetic, dict) else "fresh"
    return bool(drawn == "fresh")


def warmup_faults(
    space: Mapping[str, Factor], constants: Mapping[str, Any], variants: Any
) -> list[Fault]:
    """A KL warm-up as long as the training would leave kl_weight unreached.

    Args:
        constants, variants: as the YAML gives them; may be faulty themselves.
    """
    if "generator.epochs" in space:
        return []
    groups = variants if isinstance(variants, dict) else {}
    levels = groups.get("generator")
    frames = {"generator": constants.get("generator")}
    for name, inside in levels.items() if isinstance(levels, dict) else ():
        if isinstance(inside, dict):
            frames[f"variants.generator.{name}"] = {**inside, "name": name}
    for path, inside in own_settings(variants, "generator").items():
        frames[path] = {**_frame_of(inside.get("name"), frames), **inside}
    faults = []
    for path, frame in frames.items():
        if not isinstance(frame, dict) or _ignored("generator.kl_warmup", frame.get("prompt")):
            continue
        epochs = frame.get("epochs", _default(frame.get("name"), "epochs"))
        given = {f"{path}.kl_warmup": frame.get("kl_warmup")}
        factor = space.get("generator.kl_warmup")
        if factor is not None and path == "generator":
            given = indexed("space.generator.kl_warmup.choices", factor.choices or ())
        for where, warmup in given.items():
            if isinstance(epochs, int) and isinstance(warmup, int) and warmup >= epochs > 0:
                must = f"must be < {path}.epochs, which is {epochs}: kl_weight is never reached"
                faults.append(Fault(where, must, warmup))
    return faults


def _frame_of(name: Any, frames: Mapping[str, Any]) -> Any:
    """The settings that the study has for a generator; the constant's where it is not named."""
    constant = frames["generator"] if isinstance(frames["generator"], dict) else {}
    if name is None or name == constant.get("name"):
        return constant
    return frames.get(f"variants.generator.{name}", {})


def _default(generator: Any, leaf: str) -> Any:
    """The default of a generator's setting; None where there is none."""
    setting = FIELDS.get(f"generator.{leaf}")
    field = setting.owners.get(generator) if setting and isinstance(generator, str) else None
    return field.default if field else None
