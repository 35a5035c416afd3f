"""The weights of a pretrained tag: from the cache of the Hugging Face Hub, else downloaded.

open_clip asks the network each time, whatever the cache has, and without a network it takes three
quarters of a minute to say so.
"""

from collections.abc import Mapping
from typing import Any, Final

ANSWER_SECONDS: Final = 5.0
_SAFE, _PLAIN = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"


class NoWeightsError(Exception):
    """Weights that are not here and cannot be downloaded; str() says in one line what would do."""


def weights_on_hub(architecture: str, tag: str) -> str | None:
    """The path of a tag's weights; they are downloaded if they are not in the cache.

    Returns:
        None for a tag whose weights are not on the hub: open_clip knows where they are.
    Raises:
        NoWeightsError: they are not in the cache, and the hub does not answer.
        Exception: whatever open_clip raises for a download that fails.
    """
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    entry = get_pretrained_cfg(architecture, tag)
    place = entry.get("hf_hub", "")
    if not place or "file" in entry:
        return None
    repository, _, name = place.rpartition("/")
    names = _names(name)
    found = _cached(repository, names)
    if found is None and (why := _unreachable(repository, names[0])):
        raise NoWeightsError(_line(architecture, why))
    return found or str(download_pretrained(entry))


def preprocessing(architecture: str, tag: str) -> Mapping[str, Any]:
    """What a tag says of its pictures' preprocessing; their size is the architecture's."""
    from open_clip.pretrained import get_pretrained_cfg

    entry = get_pretrained_cfg(architecture, tag)
    return {key: value for key, value in entry.items() if key != "size"}


def _names(name: str) -> list[str]:
    """The files that open_clip looks for, in its order: safetensors come first."""
    if not name:
        return [_SAFE, _PLAIN]
    safe = f"{name[:-4]}.safetensors"
    return [safe, name] if name.endswith((".bin", ".pth")) else [name]


def _cached(repository: str, names: list[str]) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, name) for name in names)
    return next((path for path in found if isinstance(path, str)), None)


def _unreachable(repository: str, name: str) -> str:
    """Why the hub does not answer; "": it does."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repository, name), timeout=ANSWER_SECONDS)
    except HfHubHTTPError:  # an answer; what else the hub has of these weights, open_clip will see
        return ""
    except Exception as why:  # of many kinds, by the version and its HTTP client
        return (str(why).strip().splitlines() or [type(why).__name__])[0]
    return ""


def _line(architecture: str, why: str) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        f"its weights are not in {HF_HUB_CACHE}, and the hub does not answer ({why.rstrip('.')}). "
        "On a machine with a network, ship-sweep --space FILE --prefetch downloads puts them below "
        "the folder that HF_HOME names, which has to be one that this machine sees; a file may "
        f"stand in the tag's place, too: {architecture}:FILE"
    )
