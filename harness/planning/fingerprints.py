"""Fingerprints of backbones and data sets, remembered so that a finished study loads neither."""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.method import Method
from ship.whole_file import read_whole, write_whole

MEMORY = "fingerprints"


@dataclass
class Fingerprints:
    """Content hashes that setting keys are made of.

    A data set is loaded once; its loader remembers what pictures hold. A backbone's weights take
    seconds to load and hash, so its fingerprint is remembered in cache_dir, in a file that is
    called by the name and the size and modification time of the weight files; a pretrained tag's
    weights never change, so there the name and open_clip's version are enough.

    reading: how folders of one's own are read, by dataset: what the method's load_dataset is told.
    """

    method: Method
    data_root: Path | None
    cache_dir: Path
    reading: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _pictures: dict[str, Any] = field(default_factory=dict)
    _backbones: dict[str, str] = field(default_factory=dict)

    def dataset(self, name: str) -> str:
        """Fingerprint of a data set.

        Raises:
            ValueError: the data set cannot be read.
        """
        return str(self.pictures(name).fingerprint)

    def pictures(self, name: str) -> Any:
        """The data set itself, as the method loads it.

        Raises:
            ValueError: the data set cannot be read.
        """
        if name not in self._pictures:
            own = self.reading.get(name, {})
            found = self.method.load_dataset(name, self.data_root, self.cache_dir, **own)
            self._pictures[name] = found
        return self._pictures[name]

    def backbone(self, name: str) -> str:
        """Fingerprint of a backbone; loads its weights if they were not seen before.

        Raises:
            ValueError: the backbone cannot be loaded.
        """
        if name not in self._backbones:
            known = self._remembered(name)
            self.remember(name, known or self.method.load_backbone(name, "cpu").fingerprint)
        return self._backbones[name]

    def remember(self, name: str, fingerprint: str) -> None:
        """Take the fingerprint of a backbone that was loaded anyway.

        Raises:
            UserError: another one was remembered, which the settings' keys have been made of.
        """
        known = self._backbones.setdefault(name, fingerprint)
        if self._remembered(name) != fingerprint:
            stamp = _stamp(name)
            # one that cannot be remembered is computed again: no reason to stop
            with suppress(OSError):
                write_whole(self.cache_dir / MEMORY / stamp, _sealed(stamp, fingerprint))
        if known != fingerprint:
            raise UserError(
                f"backbone {name}: other weights than its files had when they were last read, with "
                f"the same size and time; the same command goes on with them"
            )

    def _remembered(self, name: str) -> str:
        """The fingerprint that was kept of a backbone; "" where its file is not as it was written.

        A wrong one would make results of other weights pass for this backbone's.
        """
        stamp, kept = _stamp(name), b""
        with suppress(ValueError):
            kept = read_whole(self.cache_dir / MEMORY / stamp, most=1000)
        fingerprint = kept.partition(b" ")[0].decode("ascii", "replace")
        return fingerprint if kept == _sealed(stamp, fingerprint) else ""


def _sealed(stamp: str, fingerprint: str) -> bytes:
    """A fingerprint with a checksum of itself and its stamp, as it is kept."""
    checksum = hashlib.blake2b(f"{stamp}|{fingerprint}".encode(), digest_size=8).hexdigest()
    return f"{fingerprint} {checksum}".encode()


def _stamp(backbone: str) -> str:
    """What a remembered fingerprint holds for: the backbone's name and its files as they are."""
    pretrained, clip = Path(backbone.partition(":")[2]), Path(str(files("ship"))) / "clip"
    weights = [pretrained] if pretrained.name and pretrained.is_file() else []
    if backbone == "pocket":
        folder = Path(str(files("ship.pocket")))
        weights = sorted(p for p in folder.rglob("*") if p.suffix in {".safetensors", ".json"})
    stats = [(file.name, (stat := file.stat()).st_size, stat.st_mtime_ns) for file in weights]
    # the hash's own definition is code: a changed one must not meet old memories
    code = [(clip / name).read_bytes() for name in ("backbone.py", "weights.py")]
    told = repr((backbone, stats, version("open_clip_torch"), code)).encode()
    return hashlib.blake2b(told, digest_size=16).hexdigest()
