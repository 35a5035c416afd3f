"""The packaged small CLIP ("pocket"), its defaults and the packaged picture sets, as paths.

Importing this module is cheap: it loads neither torch nor the files it points to.
"""

from pathlib import Path
from typing import Final

MODEL_DIR: Final[Path] = Path(__file__).resolve().parent
"""Holds open_clip_config.json, open_clip_model.safetensors and bpe_pocket.txt.gz."""

BPE_PATH: Final[Path] = MODEL_DIR / "bpe_pocket.txt.gz"
"""The model's BPE merges; open_clip's tokenizer needs this path given explicitly."""

EMOJI_PARQUET: Final[Path] = MODEL_DIR / "emoji.parquet"
"""The packaged drawings: a picture a row (see NOTICE)."""

PHOTOS_PARQUET: Final[Path] = MODEL_DIR / "photos.parquet"
"""The packaged photographs: a picture a row (see NOTICE)."""

DEFAULTS_YAML: Final[Path] = MODEL_DIR / "defaults.yaml"
"""Defaults of studies on this backbone, in the form of a study's YAML."""
