"""The backbone that something was trained with: given, or loaded by a name from a file."""

from ship.architectures import BackboneError, architectures
from ship.clip import FrozenCLIP
from ship.trial.trained.read import Kept, TrainedError


def checked_backbone(kept: Kept, clip: FrozenCLIP | None, device: str) -> FrozenCLIP:
    """The backbone, once it is sure that it is the one.

    A name from a file is loaded only where it stands for published weights: a path in it could be
    that of an archive, which torch would run.

    Args:
        kept: what was trained with it.
        clip: the backbone; None: it is to be loaded.
        device: torch device of a backbone that is loaded.

    Raises:
        TrainedError: it cannot be loaded, or is another one.
    """
    name, precision = kept.said.settings.backbone, kept.said.settings.precision
    if clip is None:
        clip = _loaded(kept, device)
    if clip.fingerprint != kept.said.backbone_fingerprint:
        raise TrainedError(
            f"{kept.path}: was trained with backbone {name[:200]!r} of fingerprint "
            f"{kept.said.backbone_fingerprint[:32]!r}, and this one is {clip.name!r} of "
            f"fingerprint {clip.fingerprint!r}; load the weights that it was trained with"
        )
    if clip.precision != precision:
        raise TrainedError(
            f"{kept.path}: was trained in precision {precision}, and the backbone is loaded in "
            f"{clip.precision}; load it in {precision}"
        )
    return clip


def _loaded(kept: Kept, device: str) -> FrozenCLIP:
    name, precision = kept.said.settings.backbone, kept.said.settings.precision
    if name != "pocket":
        architecture, _, tag = name.partition(":")
        known = {entry.name: (*entry.tags, "random") for entry in architectures()}
        if tag not in known.get(architecture, ()):
            raise TrainedError(
                f"{kept.path}: its backbone {name[:200]!r} has no published weights; load it "
                f"yourself and give it as clip=FrozenCLIP.load(...)"
            )
    try:
        return FrozenCLIP.load(name, device, precision)
    except BackboneError as error:
        raise TrainedError(
            f"{kept.path}: {error}; load it yourself and give it as clip=FrozenCLIP.load(...)"
        ) from error
