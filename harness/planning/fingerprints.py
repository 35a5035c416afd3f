"""Fingerprints (content hashes) of backbones and datasets.

Backbone fingerprints are cached, so that reporting a finished study loads no weights.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.method import MethodFunctions
from ship.architectures import split_name
from ship.hub import CONFIG_FILE, WEIGHT_FILES, find_cached_file, parse_repository
from ship.whole_file import read_whole, write_whole

CACHE_SUBFOLDER = "fingerprints"


@dataclass
class Fingerprints:
    """Content hashes of datasets and backbones. They are part of configuration keys.

    Each dataset is loaded once per process; the loader caches the hashes of its images. Loading and
    hashing a backbone's weights takes seconds, so its fingerprint is cached in a file in
    `cache_dir`. A cached fingerprint is ignored if any of these has changed: the size or
    modification time of a weight file, open_clip's version, or the code that computes fingerprints.
    For open_clip's pretrained tags, files are not checked, because published weights do not change.

    Attributes:
        method: Functions that load datasets and backbones.
        data_root: Folder that contains the datasets' folders. None if the study needs none.
        cache_dir: Cache folder.
        folder_options: Dataset name -> extra keyword arguments for `method.load_dataset` (options
            of a custom image folder).
    """

    method: MethodFunctions
    data_root: Path | None
    cache_dir: Path
    folder_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _datasets: dict[str, Any] = field(default_factory=dict)
    _backbone_fingerprints: dict[str, str] = field(default_factory=dict)

    def dataset_fingerprint(self, name: str) -> str:
        """Return the fingerprint of a dataset.

        Raises:
            ValueError: The dataset cannot be read.
        """
        return str(self.load_dataset(name).fingerprint)

    def load_dataset(self, name: str) -> Any:
        """Return a dataset. The first call loads it.

        Raises:
            ValueError: The dataset cannot be read.
        """
        if name not in self._datasets:
            options = self.folder_options.get(name, {})
            dataset = self.method.load_dataset(name, self.data_root, self.cache_dir, **options)
            self._datasets[name] = dataset
        return self._datasets[name]

    def backbone_fingerprint(self, name: str) -> str:
        """Return the fingerprint of a backbone. Loads the weights if it is not cached.

        Raises:
            ValueError: The backbone cannot be loaded.
            OSError: The size or modification time of a weight file cannot be read.
            UserError: See `cache_backbone_fingerprint`.
        """
        if name not in self._backbone_fingerprints:
            fingerprint = self._read_cache(name)
            self.cache_backbone_fingerprint(
                name, fingerprint or self.method.load_backbone(name, "cpu").fingerprint
            )
        return self._backbone_fingerprints[name]

    def cache_backbone_fingerprint(self, name: str, fingerprint: str) -> None:
        """Cache the fingerprint of a backbone that has been loaded.

        Raises:
            UserError: The weights have changed: this process has already used another fingerprint
                of this backbone, which may be part of configuration keys.
            OSError: The size or modification time of a weight file cannot be read.
        """
        earlier_fingerprint = self._backbone_fingerprints.setdefault(name, fingerprint)
        # the cache is updated even if an error follows, so that the next process can continue
        if self._read_cache(name) != fingerprint:
            cache_key = _make_cache_key(name)
            # without a cache file, the next process computes the fingerprint again
            with suppress(OSError):
                write_whole(
                    self.cache_dir / CACHE_SUBFOLDER / cache_key,
                    _format_cache_entry(cache_key, fingerprint),
                )
        if earlier_fingerprint != fingerprint:
            raise UserError(
                f"backbone {name}: the weight files changed after their fingerprint was computed. "
                "Run the same command again to use the new weights"
            )

    def _read_cache(self, name: str) -> str:
        """Return the cached fingerprint of a backbone, or "" if its file is missing or damaged.

        A checksum in the file detects damage. Otherwise a damaged fingerprint could equal that of
        other weights, and their results would be reused.
        """
        cache_key, content = _make_cache_key(name), b""
        with suppress(ValueError):
            content = read_whole(self.cache_dir / CACHE_SUBFOLDER / cache_key, max_bytes=1000)
        fingerprint = content.partition(b" ")[0].decode("ascii", "replace")
        return fingerprint if content == _format_cache_entry(cache_key, fingerprint) else ""


def _format_cache_entry(cache_key: str, fingerprint: str) -> bytes:
    """Return the content of a cache file: the fingerprint, and a checksum of both arguments."""
    checksum = hashlib.blake2b(f"{cache_key}|{fingerprint}".encode(), digest_size=8).hexdigest()
    return f"{fingerprint} {checksum}".encode()


def _make_cache_key(backbone: str) -> str:
    """Return the cache key of a backbone: a hash of all that determines its fingerprint.

    The hash covers its name, the names, sizes and modification times of its files, open_clip's
    version, and the source code that computes fingerprints.
    """
    pretrained = Path(split_name(backbone)[1])
    backbone_files = [pretrained] if pretrained.name and pretrained.is_file() else []
    if repository := parse_repository(backbone):
        name_lists = ([CONFIG_FILE], WEIGHT_FILES)
        cached_paths = (find_cached_file(repository, names) for names in name_lists)
        # resolve the Hub's symlinks: the target's file name is a hash of its content, and becomes
        # part of the key
        backbone_files = [Path(path).resolve() for path in cached_paths if path]
    if backbone == "pocket":
        folder = Path(str(files("ship.pocket")))
        backbone_files = sorted(
            path for path in folder.rglob("*") if path.suffix in {".safetensors", ".json"}
        )
    stats = [
        (file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in backbone_files
    ]
    # the code that computes fingerprints, so that changing it invalidates the cache
    clip_folder = Path(str(files("ship"))) / "clip"
    code = [(clip_folder / name).read_bytes() for name in ("backbone.py", "weights.py")]
    content = repr((backbone, stats, version("open_clip_torch"), code)).encode()
    return hashlib.blake2b(content, digest_size=16).hexdigest()
