"""The packaged model and pictures, and the pure helpers of the scripts that made them."""

import json
import random
import subprocess
import sys
from itertools import pairwise

import polars as pl
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from ship.pocket import BPE_PATH, DEMONSTRATION_NOTE, EMOJI_PARQUET, MODEL_DIR
from ship.pocket.scripts.build_emoji import (
    COLUMNS,
    MINIMUM,
    choose_split,
    family,
    possible_splits,
)
from ship.pocket.scripts.captions import concept_caption, emoji_caption
from ship.pocket.scripts.catalogue import DOWNSTREAM_STYLES, PRETRAINING_STYLES
from ship.pocket.scripts.classes import EXCLUDED, REMOVED_ICONS, class_name
from ship.pocket.scripts.icons import Emoji, IconSet, find_by_name, hex_key, match_icons, slug
from ship.pocket.scripts.image_tower import remap_by_position
from ship.pocket.scripts.measure import PocketCLIP, accuracy, half_accuracies
from ship.pocket.scripts.packages import ICON_SETS
from ship.pocket.scripts.render import SIZE, decode, encode_webp, svg_document
from ship.pocket.scripts.text_tower import TextTowerConfig, lr_factor, trimmed_text_features
from ship.pocket.scripts.views import Looks, colour_word, plain_view, random_view
from ship.pocket.scripts.vocabulary import merges_applied, truncate_merges, write_merges
from ship.pocket.scripts.wordnet import Concept, Synset, _classes_below, _nearest_members

ZERO_SHOT_BOUND = 48.0
"""Percent of every tenth test picture; NOTICE has the figure over all."""


@pytest.fixture(scope="module")
def pictures() -> pl.DataFrame:
    """The packaged table."""
    return pl.read_parquet(EMOJI_PARQUET)


@pytest.fixture(scope="module")
def clip() -> PocketCLIP:
    """The packaged model, loaded once."""
    return PocketCLIP()


def emoji(label: str = "man’s shoe", hexcode: str = "1f45e", **changes: object) -> Emoji:
    """An emoji with some fields changed."""
    fields = {"tags": ("brown",), "shortcodes": ("mans-shoe",), "group": 7, "subgroup": 65}
    return Emoji(hexcode, "\U0001f45e", label, **{**fields, **changes})  # type: ignore[arg-type]


def icon_set(style: str, *names: str, by_hexcode: dict[str, str] | None = None) -> IconSet:
    """A set of empty icons."""
    return IconSet(style, {"icons": {name: {} for name in names}}, by_hexcode or {})


# the picture set


def test_parquet_schema(pictures: pl.DataFrame) -> None:
    """Columns, types, order of rows and allowed values are as documented."""
    assert tuple(pictures.columns) == COLUMNS
    assert pictures.schema["image"] == pl.Binary
    assert all(pictures.schema[name] == pl.String for name in COLUMNS[1:])
    assert not any(pictures.null_count().row(0))
    assert pictures.equals(pictures.sort("class_name", "split", "style", "icon"))
    assert set(pictures["style"]) == set(DOWNSTREAM_STYLES)
    assert pictures["icon"].is_unique().all()


def test_every_class_has_its_minimum(pictures: pl.DataFrame) -> None:
    """Each class has at least 2 train, 1 val and 1 test pictures."""
    counts = pictures.pivot("split", index="class_name", values="icon", aggregate_function="len")
    assert counts.height >= 300
    for split, least in MINIMUM.items():
        assert counts[split].min() >= least  # type: ignore[operator]


def test_class_names_are_plain_and_distinct(pictures: pl.DataFrame) -> None:
    """One name for one emoji, lower case and ASCII."""
    pairs = pictures.select("class_name", "hexcode").unique()
    assert pairs["class_name"].is_unique().all()
    assert pairs["hexcode"].is_unique().all()
    assert all(name == name.lower() and name.isascii() for name in pairs["class_name"])


def test_no_family_straddles_splits(pictures: pl.DataFrame) -> None:
    """Drawings that share outlines stand on one split."""
    families = pictures.with_columns(family=pl.col("style").map_elements(family, pl.String))
    splits = families.group_by("class_name", "family").agg(pl.col("split").n_unique())
    assert splits["split"].max() == 1


def test_licences(pictures: pl.DataFrame) -> None:
    """Every picture bears its set's licence, and none asks to share alike."""
    for style, licence in pictures.select("style", "licence").unique().rows():
        assert licence == ICON_SETS[style].licence
        assert "SA" not in licence


def test_training_styles_are_apart() -> None:
    """The pocket CLIP was trained on none of the packaged styles and on no share-alike set."""
    assert not set(PRETRAINING_STYLES) & set(DOWNSTREAM_STYLES)
    assert all("SA" not in ICON_SETS[style].licence for style in PRETRAINING_STYLES)


def test_removed_icons_are_absent(pictures: pl.DataFrame) -> None:
    """Wrong matches found on the contact sheets did not come back."""
    assert not {f"{style}:{icon}" for style, icon in REMOVED_ICONS} & set(pictures["icon"])
    assert not {class_name(label) for label in EXCLUDED} - {"sun", "umbrella"} & set(
        pictures["class_name"]
    )


def test_pictures_decode(pictures: pl.DataFrame) -> None:
    """A sample decodes to RGB of the stated size, with something drawn on white."""
    for image in pictures["image"].gather_every(40):
        picture = decode(image)
        assert (picture.mode, picture.size) == ("RGB", (SIZE, SIZE))
        assert len(picture.getcolors(SIZE * SIZE) or ()) > 1


def test_file_sizes() -> None:
    """The package stays small enough to ship, and readable by every user."""
    limits = {
        "open_clip_model.safetensors": 16.5e6,
        "emoji.parquet": 6e6,
        "bpe_pocket.txt.gz": 1e5,
        "open_clip_config.json": 2e3,
    }
    for name, limit in limits.items():
        status = (MODEL_DIR / name).stat()
        assert status.st_size < limit
        assert status.st_mode & 0o444 == 0o444


def test_import_is_light() -> None:
    """The package's paths cost no torch."""
    code = "import sys, ship.pocket; sys.exit('torch' in sys.modules or 'polars' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "demonstration" in DEMONSTRATION_NOTE


# the model


def test_model_loads_by_open_clip(clip: PocketCLIP) -> None:
    """open_clip reads the folder, and the frozen trunk sees 128-pixel pictures."""
    config = json.loads((MODEL_DIR / "open_clip_config.json").read_text("utf-8"))["model_cfg"]
    image = clip.encode_pictures([Image.new("RGB", (200, 150), "white")])
    assert image.shape == (1, config["embed_dim"])
    assert torch.isfinite(image).all()
    assert clip.tokenizer.vocab_size == config["text_cfg"]["vocab_size"]
    assert clip.tokenizer.context_length == config["text_cfg"]["context_length"]


def test_tokenizer_splits_class_names_like_the_full_one(pictures: pl.DataFrame) -> None:
    """Cutting the merges changed no class name's tokens."""
    full, cut = SimpleTokenizer(), SimpleTokenizer(bpe_path=str(BPE_PATH))
    for name in pictures["class_name"].unique():
        prompt = f"a photo of a {name}."
        full_parts = [full.decoder[token] for token in full.encode(prompt)]
        assert [cut.decoder[token] for token in cut.encode(prompt)] == full_parts


def test_trimmed_text_features_equal_open_clips(clip: PocketCLIP) -> None:
    """Leaving out the padding changes no feature."""
    tokens = clip.tokenizer(
        ["a cat.", "a photo of a very small red telephone receiver.", "dog"] * 2
    )
    with torch.inference_mode():
        whole = clip.model.encode_text(tokens, normalize=True)
        assert torch.allclose(trimmed_text_features(clip.model, tokens), whole, atol=1e-5)


def test_zero_shot(clip: PocketCLIP, pictures: pl.DataFrame) -> None:
    """Every tenth test picture is named well above the bound, where chance is 0.3 %."""
    names = pictures["class_name"].unique().sort().to_list()
    sample = pictures.filter(pl.col("split") == "test").gather_every(10)
    labels = torch.tensor([names.index(name) for name in sample["class_name"]])
    image = clip.encode_pictures(decode(picture) for picture in sample["image"])
    assert accuracy(image, clip.encode_names(names), labels) > ZERO_SHOT_BOUND


def test_half_accuracies() -> None:
    """With an odd count the first half is the larger, and halves do not compete."""
    features = torch.eye(3)
    labels = torch.tensor([0, 1, 2, 2])
    image = torch.stack([features[0], features[2], features[2], features[0]])
    base, new = half_accuracies(image, features, labels)
    assert (base, new) == (50.0, 100.0)


# names and matching


def test_slug_and_hex_key() -> None:
    """Names lose accents, case and apostrophes; code points lose variation selectors."""
    assert slug("Piñata: man’s Shoe!") == "pinata-mans-shoe"
    assert slug("woman's hat") == "womans-hat"
    assert hex_key("2615-FE0F") == "2615"


def test_class_name() -> None:
    """Labels become plain, and a few are renamed."""
    assert class_name("man’s shoe") == "man's shoe"
    assert class_name("Japanese “here” button") == "japanese here button"
    assert class_name("hourglass done") == "hourglass"


def test_find_by_name() -> None:
    """Numbered variants are found together, and fxemoji's names have no hyphens."""
    streamline = icon_set("streamline-emojis", "bird-1", "bird-2", "bear-face", "birdhouse")
    assert find_by_name(streamline, ["bird"]) == ["bird-1", "bird-2"]
    assert find_by_name(streamline, ["bear"]) == ["bear-face"]
    assert find_by_name(icon_set("fxemoji", "beermug"), ["nothing", "beer-mug"]) == ["beermug"]
    assert find_by_name(icon_set("noto", "beer"), ["wine"]) == []


def test_match_icons() -> None:
    """Code points match first, a doubly used icon stays with its namesake, corrections apply."""
    shoe, boot = emoji(), emoji("boot", "1f462", shortcodes=("mans-shoe",), tags=())
    sets = [
        icon_set("twemoji", "shoe", by_hexcode={"1f45e": "shoe"}),
        icon_set("fxemoji", "mansshoe", "x", "wrong"),
    ]
    matches = match_icons([boot, shoe], sets, {("fxemoji", "x"): "1f462"})
    assert matches["1f45e"] == {"twemoji": ["shoe"], "fxemoji": ["mansshoe"]}
    assert matches["1f462"] == {"fxemoji": ["x"]}
    assert match_icons([shoe], sets, removed={("fxemoji", "mansshoe")})["1f45e"] == {
        "twemoji": ["shoe"]
    }


def test_possible_splits() -> None:
    """The most test pictures win, and too few families give nothing."""
    four = {"fluent": 3, "fxemoji": 1, "noto-v1": 1, "streamline-emojis": 1}
    assert {split["fluent"] for split in possible_splits(four)} == {"test"}
    three = {"fluent": 3, "fxemoji": 1, "noto-v1": 1}
    assert {split["fluent"] for split in possible_splits(three)} == {"train"}
    assert possible_splits({"fluent": 3, "noto-v1": 1}) == []
    assert choose_split(four, "1f600") == choose_split(four, "1f600")
    assert choose_split({"fluent": 3}, "1f600") is None


# pixels


def test_svg_document() -> None:
    """Aliases resolve to their parent's body, turned as they say."""
    data = {
        "icons": {"arrow": {"body": '<path fill="currentColor"/>', "width": 32}},
        "aliases": {"left": {"parent": "arrow", "hFlip": True}},
        "height": 16,
    }
    svg = svg_document(data, "left", size=64)
    assert 'viewBox="0 0 32 16"' in svg
    assert "translate(32 0) scale(-1 1)" in svg
    assert "currentColor" not in svg


def test_webp_is_lossless() -> None:
    """What is packaged decodes to the very pixels that were rendered."""
    picture = Image.effect_noise((SIZE, SIZE), 80).convert("RGB")
    assert decode(encode_webp(picture)).tobytes() == picture.tobytes()


def test_views() -> None:
    """A view follows its generator alone, and says how it looks."""
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    picture.paste((220, 20, 20), (30, 30, 90, 90))
    assert plain_view(picture)[1] == Looks("red", ground="", size="", gray=False)
    first, looks = random_view(picture, random.Random(3))
    again, _ = random_view(picture, random.Random(3))
    assert first.size == picture.size
    assert first.tobytes() == again.tobytes()
    assert looks.colour == "red"


@pytest.mark.parametrize(
    ("rgb", "word"),
    [((1, 1, 1), "white"), ((0, 0, 0), "black"), ((0.5, 0.3, 0.1), "brown"), ((0, 0, 1), "blue")],
)
def test_colour_word(rgb: tuple[float, float, float], word: str) -> None:
    """Colours get the word that people use."""
    assert colour_word(*rgb) == word


# words


def test_merges_applied_replays_open_clips_bpe() -> None:
    """Joining a word's letters by the replayed merges gives the tokenizer's own parts."""
    full = SimpleTokenizer()
    for word in ("photo", "chipmunk", "xylophone", "a"):
        merged = {"".join(pair) for pair in merges_applied(full.bpe_ranks, word)}
        parts = full.bpe(word).split(" ")
        assert all(part in merged for part in parts if len(part.replace("</w>", "")) > 1)


def test_truncate_merges_keeps_order_and_needs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kept merges stay in rank order, and the cut file splits the needed word as before."""
    full = SimpleTokenizer()
    merges = truncate_merges(full.bpe_ranks, ["chipmunk"], prefix=100)
    ranks = [full.bpe_ranks[merge] for merge in merges]
    assert all(a < b for a, b in pairwise(ranks))
    assert len(merges) < 110
    path = tmp_path_factory.mktemp("bpe") / "cut.txt.gz"
    write_merges(merges, path)
    cut = SimpleTokenizer(bpe_path=str(path))
    assert cut.bpe("chipmunk") == full.bpe("chipmunk")
    assert cut.vocab_size == 512 + len(merges) + 2


def test_captions_name_their_thing() -> None:
    """Captions hold a name or a keyword, and the looks are the view's own."""
    rng = random.Random(0)
    looks = Looks("red", ground="blue", size="small", gray=False)
    texts = [emoji_caption(emoji(), looks, rng) for _ in range(200)]
    assert all("shoe" in text or "brown" in text for text in texts)
    assert any("red" in text for text in texts)
    assert not any("green" in text for text in texts)
    concept = Concept(("gazelle",), ("antelope",), (1,))
    texts = [concept_caption(concept, rng) for _ in range(100)]
    assert all("gazelle" in text for text in texts)
    assert any("a kind of antelope" in text for text in texts)


def test_related_nouns_take_the_nearest_classes() -> None:
    """A noun above classes holds them; one beside them inherits from the nearest ancestor."""
    nouns = {
        "animal": Synset(("animal",), ()),
        "antelope": Synset(("antelope",), ("animal",)),
        "gazelle": Synset(("gazelle",), ("antelope",)),
        "gerenuk": Synset(("gerenuk",), ("antelope",)),
        "cat": Synset(("cat",), ("animal",)),
        "stone": Synset(("stone",), ()),
    }
    below = _classes_below(nouns, ["gazelle", "cat"])
    assert _nearest_members(nouns, below, "animal") == (0, 1)
    assert _nearest_members(nouns, below, "gerenuk") == (0,)
    assert _nearest_members(nouns, below, "stone") == ()


# training


def test_remap_by_position() -> None:
    """Tensors take the target's names, and a misfit is named."""
    source = {"a.weight": torch.zeros(2), "b.bias": torch.ones(3)}
    target = {"x.weight": torch.empty(2), "y.bias": torch.empty(3)}
    renamed = remap_by_position(source, target)
    assert list(renamed) == list(target)
    with pytest.raises(ValueError, match=r"b\.bias \(3,\) does not fit y\.bias \(4,\)"):
        remap_by_position(source, {**target, "y.bias": torch.empty(4)})


def test_lr_factor() -> None:
    """The rate warms up, peaks near one and ends at final_lr."""
    config = TextTowerConfig(steps=1000, warmup=10, final_lr=0.01)
    assert lr_factor(0, config) == pytest.approx(0.1)
    assert lr_factor(9, config) == pytest.approx(1, abs=1e-3)
    assert lr_factor(1000, config) == pytest.approx(0.01)
