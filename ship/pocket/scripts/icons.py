"""Which icon of which set draws which Unicode emoji.

Some sets list the code points of their icons (chars.json); the others only have names, which are
compared with the emoji's name, its Unicode name, its aliases in the other sets and its shortcodes.
"""

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

SHORTCODE_STYLES: Final = ("fxemoji", "streamline-emojis")
"""Sets with names of their own, for which the emoji's shortcodes are tried too."""

Matches = dict[str, dict[str, list[str]]]
"""hexcode -> style -> icon names."""


@dataclass(frozen=True)
class Emoji:
    """One entry of emojibase, without its skin tones."""

    hexcode: str
    """Lower-case code points joined by "-", without variation selectors."""
    character: str
    label: str
    tags: tuple[str, ...]
    shortcodes: tuple[str, ...]
    group: int | None
    subgroup: int | None


@dataclass(frozen=True)
class IconSet:
    """One Iconify package: SVG bodies by name, aliases, and code points where it lists them."""

    style: str
    data: Mapping[str, Any]
    """icons.json, read by render.svg_document."""
    by_hexcode: Mapping[str, str]
    names: frozenset[str] = field(init=False)
    aliases_of: Mapping[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        parents = {k: alias["parent"] for k, alias in self.data.get("aliases", {}).items()}
        aliases: dict[str, list[str]] = defaultdict(list)
        for alias, parent in sorted(parents.items()):
            aliases[parent].append(alias)
        object.__setattr__(self, "names", frozenset(self.data["icons"]) | frozenset(parents))
        object.__setattr__(self, "aliases_of", {k: tuple(v) for k, v in aliases.items()})


def slug(text: str) -> str:
    """Icon-style name of a phrase: ASCII lower case, words joined by "-", apostrophes dropped."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", ascii_text.replace("'", "")).strip("-")


def hex_key(hexcode: str) -> str:
    """Code points in lower case without variation selector 16, which sets use as they like."""
    return "-".join(part for part in hexcode.lower().split("-") if part != "fe0f")


def read_emoji(folder: Path) -> list[Emoji]:
    """The emoji of emojibase's English data, in its order, without components and flags."""
    shortcodes: dict[str, list[str]] = defaultdict(list)
    for path in sorted((folder / "en" / "shortcodes").glob("*.json")):
        for hexcode, codes in json.loads(path.read_text("utf-8")).items():
            shortcodes[hex_key(hexcode)] += [codes] if isinstance(codes, str) else codes
    entries = json.loads((folder / "en" / "data.json").read_text("utf-8"))
    components, flags = 2, 9
    return [
        Emoji(
            hexcode=hex_key(entry["hexcode"]),
            character=entry["emoji"],
            label=entry["label"],
            tags=tuple(entry.get("tags", ())),
            shortcodes=tuple(dict.fromkeys(slug(c) for c in shortcodes[hex_key(entry["hexcode"])])),
            group=entry["group"],
            subgroup=entry["subgroup"],
        )
        for entry in entries
        if "group" in entry and entry["group"] not in (components, flags)
    ]


def read_icon_set(style: str, folder: Path) -> IconSet:
    """One Iconify package from its unpacked folder."""
    characters = json.loads((folder / "chars.json").read_text("utf-8"))
    return IconSet(
        style=style,
        data=json.loads((folder / "icons.json").read_text("utf-8")),
        by_hexcode={hex_key(hexcode): name for hexcode, name in characters.items()},
    )


def candidate_names(emoji: Emoji, sets: Iterable[IconSet]) -> list[str]:
    """Names under which a set without code points may list this emoji, likeliest first."""
    sets = list(sets)
    names = [slug(emoji.label)]
    for icon_set in sets:
        if name := icon_set.by_hexcode.get(emoji.hexcode):
            names += [name, *icon_set.aliases_of.get(name, ())]
    if len(plain := emoji.character.replace("\ufe0f", "")) == 1:
        names.append(slug(unicodedata.name(plain, "")))
    for name in list(names):
        for icon_set in sets:
            names += icon_set.aliases_of.get(name, ())
    return [name for name in dict.fromkeys(names) if name]


def find_by_name(icon_set: IconSet, candidates: Sequence[str]) -> list[str]:
    """The icons of a set that bear the first of the candidate names it knows.

    streamline-emojis numbers its variants ("bird-1", "bird-2") and says "bear-face" where others
    say "bear"; fxemoji writes names without hyphens.
    """
    for candidate in candidates:
        if icon_set.style == "streamline-emojis":
            pattern = re.compile(rf"{re.escape(candidate)}(-face)?(-\d)?")
            if found := sorted(name for name in icon_set.names if pattern.fullmatch(name)):
                return found
        else:
            name = candidate.replace("-", "") if icon_set.style == "fxemoji" else candidate
            if name in icon_set.names:
                return [name]
    return []


def match_icons(
    emojis: Sequence[Emoji],
    sets: Sequence[IconSet],
    added: Mapping[tuple[str, str], str] | None = None,
    removed: Collection[tuple[str, str]] = (),
) -> Matches:
    """Icons of every set for every emoji; an icon that fits two emoji stays with the better.

    Args:
        emojis, sets: what to match.
        added: (style, icon) -> hexcode of matches that no rule finds.
        removed: (style, icon) that a rule would match wrongly.
    """
    matches: Matches = {}
    for emoji in emojis:
        names = candidate_names(emoji, sets)
        found = matches.setdefault(emoji.hexcode, {})
        for icon_set in sets:
            if icon_set.by_hexcode:
                icon = icon_set.by_hexcode.get(emoji.hexcode)
                icons = [icon] if icon else []
            else:
                extra = emoji.shortcodes if icon_set.style in SHORTCODE_STYLES else ()
                icons = find_by_name(icon_set, [*names, *extra])
            if icons:
                found[icon_set.style] = icons
    _resolve_double_use(emojis, matches)
    for (style, icon), hexcode in (added or {}).items():
        found = matches[hexcode]
        found[style] = sorted({*found.get(style, ()), icon})
    for found in matches.values():
        for style in list(found):
            found[style] = [icon for icon in found[style] if (style, icon) not in removed]
            if not found[style]:
                del found[style]
    return matches


def _resolve_double_use(emojis: Sequence[Emoji], matches: Matches) -> None:
    """Leave each icon with one emoji: the one whose own label is the icon's name, else the first.

    fxemoji's "dog", "cat" and the like draw the face; the whole animal is "dogside", "catside".
    """
    users: dict[tuple[str, str], list[Emoji]] = defaultdict(list)
    for emoji in emojis:
        for style, icons in matches[emoji.hexcode].items():
            for icon in icons:
                users[style, icon].append(emoji)
    for (style, icon), candidates in users.items():
        keeper = min(candidates, key=lambda emoji: _misfit(emoji, style, icon))
        for emoji in candidates:
            if emoji is not keeper:
                rest = [name for name in matches[emoji.hexcode][style] if name != icon]
                matches[emoji.hexcode][style] = rest
    for found in matches.values():
        for style in [style for style, icons in found.items() if not icons]:
            del found[style]


def _misfit(emoji: Emoji, style: str, icon: str) -> int:
    """0 where the emoji's own label is the icon's name, else 1."""
    label = slug(emoji.label)
    if style == "fxemoji":
        if icon in ("dog", "cat", "tiger", "pig", "mouse"):
            return 0 if label.endswith("face") else 1
        return 0 if label.replace("-", "") == icon else 1
    return 0 if re.sub(r"-\d$", "", icon) == label else 1
