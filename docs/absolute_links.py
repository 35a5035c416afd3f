"""Print the README for a package index, where relative links do not work.

For a release:

    python -m docs.absolute_links https://github.com/OWNER/ship-sweep v0.2.0 > README.index.md

Pages are linked at the tag; images are linked as raw files.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def make_links_absolute(text: str, repository: str, tag: str) -> str:
    """Return Markdown in which each relative link and image has an absolute address.

    Args:
        text: Markdown with links relative to the repository's root.
        repository: Address of the repository.
        tag: Tag or branch of the pages.
    """

    def make_link(match: re.Match[str]) -> str:
        kind = "raw" if match[1] else "blob"
        return f"{match[1]}[{match[2]}]({repository}/{kind}/{tag}/{match[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)", make_link, text)


if __name__ == "__main__":
    sys.stdout.write(make_links_absolute(README.read_text("utf-8"), *sys.argv[1:]))
