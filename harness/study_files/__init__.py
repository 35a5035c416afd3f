"""Where a study's YAML lies, and its text as plain values.

Answers for: finding a file or a packaged study, YAML 1.2, limits of size and depth.
What the values mean is harness.config's. Light: nothing of it imports torch.
"""

from harness.study_files.packaged import find_space, label_of, packaged_names, packaged_spaces
from harness.study_files.yaml12 import parse_value, read_yaml

__all__ = [
    "find_space",
    "label_of",
    "packaged_names",
    "packaged_spaces",
    "parse_value",
    "read_yaml",
]
