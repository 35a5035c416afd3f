"""Paths of the packaged small CLIP ("pocket"), of its defaults and of the packaged datasets.

Importing this module is cheap: it loads neither torch nor the files.
"""

from pathlib import Path
from typing import Final

MODEL_DIR: Final[Path] = Path(__file__).resolve().parent
"""Folder of open_clip_config.json, open_clip_model.safetensors and bpe_pocket.txt.gz."""

BPE_PATH: Final[Path] = MODEL_DIR / "bpe_pocket.txt.gz"
"""The model's BPE merges. They differ from CLIP's: open_clip's tokenizer needs this path."""

EMOJI_PARQUET: Final[Path] = MODEL_DIR / "emoji.parquet"
"""The packaged dataset emoji, one image per row (see NOTICE)."""

PHOTOS_PARQUET: Final[Path] = MODEL_DIR / "photos.parquet"
"""The packaged dataset photos, one image per row (see NOTICE)."""

DEFAULTS_YAML: Final[Path] = MODEL_DIR / "defaults.yaml"
"""Default settings of studies with this backbone, in the format of a study's YAML."""
