"""Files of repositories on the Hugging Face Hub.

Cached files are read without contacting the hub. huggingface_hub's download function contacts the
hub even for cached files, and without a network it fails only after most of a minute. Imports no
torch.
"""

import re
from collections.abc import Sequence
from typing import Final

HUB_PREFIX: Final = "hf-hub:"
"""Prefix of backbones that are repositories on the hub, as in open_clip."""

CONFIG_FILE: Final = "open_clip_config.json"
# Weight files, in the order in which open_clip looks for them.
WEIGHT_FILES: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_TIMEOUT_SECONDS: Final = 5.0


class HubError(FileNotFoundError):
    """A file is not in the hub's local cache and cannot be downloaded. The message is one line."""


def parse_repository(backbone: str) -> str | None:
    """Return the repository of a backbone "hf-hub:ORG/MODEL", or None for other backbones.

    Use is_repository to check the form of the result.
    """
    return backbone.removeprefix(HUB_PREFIX) if backbone.startswith(HUB_PREFIX) else None


def is_repository(name: str) -> bool:
    """Return True if a name has the form ORG/MODEL."""
    return ".." not in name and _REPOSITORY.fullmatch(name) is not None


def find_cached_file(repository: str, names: Sequence[str]) -> str | None:
    """Return the path of the first of these files that is in the hub's cache, or None.

    Args:
        repository: ORG/MODEL.
        names: Names of the files, in order of preference.
    """
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(repository, name) for name in names)
    return next((path for path in paths if isinstance(path, str)), None)


def fetch_hub_file(repository: str, names: Sequence[str], subject: str) -> str:
    """Return the path of the first of these files that is cached, or else download one.

    Args:
        repository: ORG/MODEL.
        names: Names of the files, in order of preference.
        subject: Subject and verb of messages about the file, e.g. "its weights are".

    Raises:
        HubError: The hub does not respond, refuses the download, or has none of the files.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    if path := find_cached_file(repository, names):
        return path
    for name in names:
        try:
            require_reachable(repository, name, subject)
            return hf_hub_download(repository, name)
        except HfHubHTTPError as error:
            if not isinstance(error, EntryNotFoundError):
                raise HubError(_make_refusal_message(repository, error)) from error
        except HubError:
            raise
        except Exception as error:  # the connection broke during the download
            raise HubError(_make_unreachable_message(subject, error)) from error
    raise HubError(f"{repository} on the Hugging Face Hub has no {' or '.join(names)}")


def require_reachable(repository: str, name: str, subject: str) -> None:
    """Request a file's metadata from the hub; without a network, fail within seconds.

    Args:
        repository: ORG/MODEL.
        name: Name of the file.
        subject: Subject and verb of messages about the file, e.g. "its weights are".

    Raises:
        HubError: The hub does not respond. The message contains the command to run on a machine
            with a network.
        huggingface_hub.errors.HfHubHTTPError: The hub refuses the request or has no such file.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repository, name), timeout=_TIMEOUT_SECONDS)
    except HfHubHTTPError:
        raise
    except Exception as error:  # its type depends on the version and its HTTP client
        raise HubError(_make_unreachable_message(subject, error)) from error


def _make_unreachable_message(subject: str, error: Exception) -> str:
    """Return the message for the case that a file is not cached and the hub does not respond.

    Args:
        subject: Subject and verb of the message, e.g. "its weights are".
        error: Exception of the request.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        f"{subject} not in {HF_HUB_CACHE}, and the hub does not respond "
        f"({summarize_error(error).rstrip('.')}). On a machine with a network, run ship-sweep "
        "prefetch downloads --space FILE, with HF_HOME set to a folder that this machine can read"
    )


def summarize_error(error: Exception) -> str:
    """Return the first line of an exception's message, or its type if there is no message."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _make_refusal_message(repository: str, error: Exception) -> str:
    """Return the message for a repository whose files the hub refuses to send."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):  # a subclass of RepositoryNotFoundError
        return f"{repository} is gated. Accept its terms on the hub and run 'hf auth login'"
    if isinstance(error, RepositoryNotFoundError):
        return f"the Hugging Face Hub has no public model {repository}. Check its name"
    return f"{repository} cannot be downloaded: {summarize_error(error)}"
