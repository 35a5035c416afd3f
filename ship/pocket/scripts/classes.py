"""The curated classes of the packaged dataset, as data.

A class is an emoji of the concrete groups that at least three families of downstream drawings
show. Left out are concepts whose drawings are hard to tell from a kept one's. The icons themselves
were looked at on contact sheets of all classes; those that draw something else are listed too.
"""

from typing import Final

CONCRETE_GROUPS: Final = (3, 4, 5, 6, 7)
"""emojibase's animals and nature, food and drink, travel and places, activities, objects."""

EXCLUDED: Final = frozenset(
    [
        # Faces and twins of kept animals and plants.
        "dog face", "cat face", "tiger face", "horse face", "cow face", "pig face", "mouse face",
        "rabbit face", "monkey face", "pig nose", "ox", "water buffalo", "ewe", "two-hump camel",
        "rat", "front-facing baby chick", "whale", "dragon face", "chicken", "white flower",
        "rosette", "blossom", "shamrock", "fallen leaf", "leaf fluttering in wind", "green apple",
        # Food.
        "ice cream", "clinking beer mugs", "clinking glasses", "fork and knife with plate",
        "teacup without handle",
        # Places: sister buildings and times of day.
        "globe showing Americas", "globe showing Asia-Australia", "mountain", "house with garden",
        "houses", "Japanese post office", "hotel", "love hotel", "department store", "synagogue",
        "bank", "wedding", "camping", "building construction", "foggy", "cityscape at dusk",
        "sunset", "sunrise", "night with stars", "map of Japan",
        # Vehicles seen from the front, and trains.
        "railway car", "high-speed train", "train", "metro", "light rail", "tram car",
        "mountain railway", "oncoming bus", "trolleybus", "minibus", "oncoming police car",
        "oncoming taxi", "oncoming automobile", "sport utility vehicle", "articulated lorry",
        "horizontal traffic light", "passenger ship", "ferry", "motor boat", "small airplane",
        "airplane departure", "airplane arrival", "suspension railway", "mountain cableway",
        "station", "monorail",
        # Moons, clouds, clocks.
        "hourglass not done", "new moon", "waxing crescent moon", "first quarter moon",
        "waxing gibbous moon", "waning gibbous moon", "last quarter moon", "waning crescent moon",
        "new moon face", "first quarter moon face", "last quarter moon face", "full moon face",
        "glowing star", "cloud with lightning and rain", "cloud with lightning",
        "sun behind small cloud", "sun behind large cloud", "sun behind rain cloud", "fog",
        "umbrella", "snowman without snow", "sparkles", "high voltage", "sun",
        # Games, clothes, music.
        "ticket", "1st place medal", "2nd place medal", "3rd place medal", "military medal",
        "rugby football", "water pistol", "spade suit", "heart suit", "diamond suit", "club suit",
        "purse", "clutch bag", "muted speaker", "speaker low volume", "speaker medium volume",
        "speaker high volume", "bell with slash", "musical note", "loudspeaker", "sparkler",
        "woman’s clothes",
        # Devices, papers, tools.
        "mobile phone with arrow", "dvd", "computer disk", "camera with flash",
        "magnifying glass tilted right", "film projector", "laptop", "green book", "blue book",
        "orange book", "notebook", "ledger", "notebook with decorative cover", "page with curl",
        "page facing up", "rolled-up newspaper", "bookmark", "yen banknote", "euro banknote",
        "pound banknote", "chart increasing with yen", "e-mail", "incoming envelope",
        "envelope with arrow", "inbox tray", "outbox tray", "closed mailbox with lowered flag",
        "closed mailbox with raised flag", "open mailbox with raised flag",
        "open mailbox with lowered flag", "black nib", "pen", "crayon", "open file folder",
        "card index dividers", "card index", "tear-off calendar", "spiral calendar",
        "spiral notepad", "chart decreasing", "round pushpin", "linked paperclips", "unlocked",
        "locked with pen", "locked with key", "old key", "hammer and pick", "hammer and wrench",
        "pick", "link",
    ]
)  # fmt: skip
"""emojibase labels."""

RENAMED: Final = {
    "globe showing Europe-Africa": "globe",
    "hourglass done": "hourglass",
    "magnifying glass tilted left": "magnifying glass",
    "vertical traffic light": "traffic light",
    "umbrella with rain drops": "umbrella",
    "bottle with popping cork": "champagne bottle",
    "sun with face": "sun",
    "mahjong red dragon": "mahjong tile",
    "performing arts": "theater masks",
    "cooking": "frying pan",
    "bowling": "bowling ball",
    "tennis": "tennis racket",
    "construction": "construction barrier",
    "locked": "padlock",
    "pool 8 ball": "billiard ball",
    "card file box": "card file",
}
"""Plain names for a prompt's blank, where emojibase describes or names an activity."""

ADDED_ICONS: Final = {
    ("fxemoji", "dogside"): "1f415",
    ("fxemoji", "catside"): "1f408",
    ("fxemoji", "tigerside"): "1f405",
    ("fxemoji", "leopardside"): "1f406",
    ("fxemoji", "mouseside"): "1f401",
    ("fxemoji", "pigside"): "1f416",
    ("fxemoji", "bunnyside"): "1f407",
    ("fxemoji", "dragonside"): "1f409",
    ("fxemoji", "hampster"): "1f439",
    ("fxemoji", "evergreen"): "1f332",
    ("fxemoji", "chilipepper"): "1f336",
    ("fxemoji", "fishcakeswirl"): "1f365",
    ("fxemoji", "snowmountains"): "1f3d4",
    ("fxemoji", "toykotower"): "1f5fc",
    ("fxemoji", "manltepiececlock"): "1f570",
    ("fxemoji", "highspeedtrainbulletnose"): "1f685",
    ("fxemoji", "darksunglasses"): "1f576",
    ("fxemoji", "mansshirt"): "1f455",
    ("fxemoji", "mensshoe"): "1f45e",
    ("fxemoji", "mensrunner"): "1f45f",
    ("fxemoji", "heels"): "1f460",
    ("fxemoji", "sandals"): "1f461",
    ("fxemoji", "wiredkeyboard"): "2328",
    ("fxemoji", "cellphone"): "1f4f1",
    ("fxemoji", "videocasette"): "1f4fc",
    ("fxemoji", "studiomic"): "1f399",
    ("fxemoji", "controlknob"): "1f39b",
    ("fxemoji", "leftmagnifyingglass"): "1f50d",
    ("fxemoji", "banknotedollar"): "1f4b5",
    ("fxemoji", "telephonereceiver2"): "1f4de",
}
"""Icons whose names (short, or misspelt) no rule would match, and the emoji they draw."""

REMOVED_ICONS: Final = {
    ("streamline-emojis", "turkey"): "the flag of the country, not the bird",
    ("streamline-emojis", "japan"): "the flag of the country, not the map",
    ("streamline-emojis", "tanabata-tree"): "a palm tree",
    ("fxemoji", "construction"): "a building under construction, not the barrier",
    ("fxemoji", "keyboard"): "a musical keyboard",
    ("fxemoji", "sunglasses"): "a face with sunglasses",
    ("fxemoji", "compression"): "a press, not the clamp of the other sets",
    ("fxemoji", "personalcomputer"): "a desktop computer, not a laptop",
    ("noto-v1", "laptop"): "a desktop computer, not a laptop",
    ("noto-v1", "tornado"): "the outline of noto, which trained the pocket CLIP",
    ("noto-v1", "crescent-moon"): "the outline of noto, which trained the pocket CLIP",
}
"""Icons that a rule matches wrongly, and what they draw."""


def plain(text: str) -> str:
    """Lower case, with ASCII apostrophes and without quotation marks."""
    return text.replace("’", "'").replace("“", "").replace("”", "").lower()


def class_name(label: str) -> str:
    """The name of an emoji that stands in a prompt."""
    return plain(RENAMED.get(label, label))
