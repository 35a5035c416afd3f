"""The pages say what is there: links, options, studies, and what is derived from code."""

import json
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from PIL import Image
from ruamel.yaml import YAML
from typer.main import get_command

from docs.absolute_links import absolute_links
from docs.cli_reference import CLI_PAGE, cli_reference
from docs.draw_diagrams import IMAGES, RESULT, STEPS, concepts, layers, result, trial
from docs.draw_readme import IMAGE, first_table, with_table
from docs.draw_readme import PAGES as TABLED
from docs.write_reference import PAGE, reference
from harness.cli.main import app as sweep
from harness.config import STUDY_KEYS
from harness.data.cli import app as data
from harness.store import PROTOCOLS, Tag
from reports.cli import app as report
from reports.tables.metric import MEASURES
from ship.trial_config import TrialConfig

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(DOCS.rglob("*.md")),
]
STUDIES = {path.stem for path in (ROOT / "search_spaces").glob("*.yaml")}


def without_code(text: str) -> str:
    """A page's prose."""
    return re.sub(r"```.*?```|`[^`\n]*`|^    .*$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What a page can be linked by: its headings, and `<a id="...">`."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
    return slugs | set(re.findall(r'<a id="([\w-]+)">', prose))


def broken_links(page: Path) -> Iterator[str]:
    """Relative links of a page that lead nowhere, in words."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text("utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists():
            yield f"{page.name}: no file {target}"
        elif anchor and anchor not in anchors(path.read_text("utf-8")):
            yield f"{page.name}: no heading {target}"


def commands() -> dict[str, set[str]]:
    """Each command in words -> its options."""
    roots = {"ship-sweep": sweep, "ship-report": report, "ship-data": data}
    options = {}
    for name, command in ((name, get_command(app)) for name, app in roots.items()):
        options[name] = options_of(command)
        for subcommand, child in getattr(command, "commands", {}).items():
            options[f"{name} {subcommand}"] = options_of(child)
    return options


def test_every_option_is_explained() -> None:
    """Each has its entry in a docstring."""
    roots = [get_command(app) for app in (sweep, report, data)]
    children = [child for root in roots for child in getattr(root, "commands", {}).values()]
    params = [param for command in (*roots, *children) for param in command.params]
    assert not [param.name for param in params if not param.help]


def options_of(command: click.Command) -> set[str]:
    """The long options of a command."""
    return {"--help", *(o for p in command.params for o in p.opts if o.startswith("--"))}


def quoted(page: Path) -> Iterator[str]:
    """Whatever stands as code on a page: blocks line by line, and spans."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    yield from re.findall(r"^    (.*)$", text, flags=re.MULTILINE)
    yield from (
        line for block in re.findall(r"```.*?```", text, re.S) for line in block.split("\n")
    )
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def wrong_options(page: Path) -> Iterator[str]:
    """Return the options and subcommands on a page that their command does not have, in words."""
    known = commands()
    names = "|".join(sorted(known, reverse=True))  # "ship-sweep list" before "ship-sweep"
    for code in quoted(page):
        match = re.search(rf"\b({names})(?=\s|$)(.*)", code)
        if match and "`" not in code:
            options = match[2].split(" > ")[0].split("#")[0]
            wrong = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", options)) - known.get(match[1], set())
            if match[1] in ("ship-sweep", "ship-data"):
                wrong |= set(re.findall(r"^ ([a-z]+)", options))
            yield from (f"{page.name}: {match[1]} {word}" for word in sorted(wrong))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_have_an_existing_target(page: Path) -> None:
    """Every relative link of a page names a file, and a heading of it if the link has one."""
    assert not list(broken_links(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_exist(page: Path) -> None:
    """Every command of a page has all options that the page shows for it."""
    assert not list(wrong_options(page))


def test_wrong_links_and_options_are_noticed(tmp_path: Path) -> None:
    """A dead link, a missing heading and an unknown option are reported."""
    page = tmp_path / "page.md"
    code = "    ship-sweep --nothing\n    ship-sweep list --space x\n    ship-sweep lists\n"
    page.write_text(f"# A head\n[a](no.md) [b](#none) [c](#a-head)\n\n{code}")
    assert list(broken_links(page)) == ["page.md: no file no.md", "page.md: no heading #none"]
    wrong = ["ship-sweep --nothing", "ship-sweep list --space", "ship-sweep lists"]
    assert list(wrong_options(page)) == [f"page.md: {text}" for text in wrong]


def test_studies_exist() -> None:
    """Studies that a page runs are packaged, and the page of results has every packaged study."""
    code = [line for page in PAGES for line in quoted(page)]
    named = {name for line in code for name in re.findall(r"--space (\w+)\.yaml", line)}
    results = (DOCS / "results.md").read_text("utf-8")
    written = {"lengths", "mine", "my_study", "three"}  # YAML that a page shows
    assert named and named - written <= STUDIES
    unlisted = {name for name in STUDIES if f"`{name}`" not in results}
    assert unlisted <= {"prompt_len", "template"}


def test_keys_exist() -> None:
    """A key that a page sets on a command line is a key of a study."""
    code = [line for page in PAGES for line in quoted(page)]
    keys = {key for line in code for key in re.findall(r"--set '?([a-z_]+)[.=]", line)}
    assert keys and keys <= {*STUDY_KEYS, *TrialConfig.model_fields}


def test_generated_pages_are_up_to_date() -> None:
    """They agree with the code (else: python -m docs.write_reference)."""
    assert PAGE.read_text("utf-8") == reference()
    assert CLI_PAGE.read_text("utf-8") == cli_reference()


def test_the_command_line_reference_has_every_option() -> None:
    """Each command has its heading, and each option is in the section of its command."""
    sections = dict(re.findall(r"^##+ (.*)\n((?:(?!##).*\n)*)", cli_reference(), re.MULTILINE))
    for name, options in commands().items():
        missing = [
            option
            for option in options - {"--help"}
            if not re.search(rf"`{option}[ `]", sections[name])
        ]
        assert not missing, name


def test_diagrams_are_up_to_date() -> None:
    """They show what pyproject.toml and the steps contain, and every file in them exists."""
    assert (IMAGES / "concepts.svg").read_text("utf-8") == concepts()
    assert (IMAGES / "layers.svg").read_text("utf-8") == layers()
    assert (IMAGES / "trial.svg").read_text("utf-8") == trial()
    assert (IMAGES / "result.svg").read_text("utf-8") == result()
    places = [where for package, _, where in (*STEPS, *RESULT) if package]
    assert places and not [where for where in places if not (ROOT / where).exists()]


def test_glossary_is_complete_and_in_order() -> None:
    """It has an entry for each column of a table, and the entries are sorted."""
    text = (DOCS / "glossary.md").read_text("utf-8")
    entries = [
        re.sub(r"[^\w ]", "", head).lower() for head in re.findall(r"^- \*\*(.+?)\*\*", text, re.M)
    ]
    words = [entry for entry in entries if entry.isascii() and entry]
    assert len(words) > 50 and words == sorted(words)
    headings = {head for protocol in PROTOCOLS.values() for head in protocol.headings.values()}
    headings |= {part for measure in MEASURES for part in measure.heading.split(" / ")}
    parts = {part for head in headings for part in head.split()} - {"Average", "Source", "Acc."}
    assert not [part for part in sorted(parts) if part.rstrip(".").lower() not in text.lower()]


def test_readme_and_its_image_and_its_study_agree() -> None:
    """Both tables equal the image's, in fewer columns (else: python -m docs.draw_readme STORE)."""
    with Image.open(IMAGE) as image:
        shown = json.loads(image.info["table"])
    texts = [path.read_text("utf-8") for path in TABLED]
    assert all(first_table(text) and with_table(text, shown) == text for text in texts)


def test_readme_for_a_package_index_has_no_relative_link() -> None:
    """Pages and the image get addresses; links to other sites stay."""
    text = absolute_links((ROOT / "README.md").read_text("utf-8"), "https://host/project", "v1")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets and all(target.startswith("https://") for target in targets)
    assert "![The report page" in text and "(https://host/project/raw/v1/docs/images/" in text
    assert "(https://host/project/blob/v1/docs/faq.md)" in text
    assert "(https://arxiv.org/abs/2307.07397)" in text


def test_files_named_for_contributors_exist() -> None:
    """Every path of the code that CONTRIBUTING.md names exists."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = re.findall(r"`((?:ship|harness|reports|tests)/[\w/.]+)`", text)
    assert len(paths) > 10 and not [path for path in paths if not (ROOT / path).exists()]


def test_messages_are_those_of_the_code() -> None:
    """The page of messages quotes the code word for word in bold."""
    quoted = re.findall(r"\*\*`(.+?)`\*\*", (DOCS / "errors.md").read_text("utf-8"))
    files = (
        path for part in ("ship", "harness", "reports") for path in ROOT.glob(f"{part}/**/*.py")
    )
    code = "".join(path.read_text("utf-8") for path in files)
    assert len(quoted) > 15 and not [words for words in quoted if words not in code]


def test_every_tag_is_documented() -> None:
    """The page on MLflow names each tag of ship-sweep, and no other."""
    named = set(re.findall(r"`(ship\.\w+)`", (DOCS / "mlflow.md").read_text("utf-8")))
    assert named == {tag.value for tag in Tag if tag.startswith("ship.")}


def test_each_fault_has_its_tests() -> None:
    """A list has the faults of the page in order, each with existing tests."""
    page, folder = (DOCS / "faults.md").read_text("utf-8"), ROOT / "tests" / "harness"
    rows = re.findall(r"^\|(.+?)(?: \(`[^|]*)? \|", page, flags=re.MULTILINE)
    faults = [row for row in rows if row not in ("Fault", ":--")]
    listed = YAML(typ="safe").load(folder / "promises.yaml")
    assert len(faults) > 15 and [item["fault"] for item in listed] == faults
    for name in (test for item in listed for test in item["tests"]):
        path, test = name.split("::")
        file = (ROOT if path.startswith("tests/") else folder) / path
        assert file.exists() and f"\ndef {test}(" in file.read_text("utf-8"), name


def test_pages_are_short_and_narrow() -> None:
    """The README has at most 900 words; no line of a page has more than 120 columns."""
    words = (ROOT / "README.md").read_text("utf-8").split()
    assert len([word for word in words if re.search(r"\w", word)]) <= 900
    lines = [(page, line) for page in PAGES for line in page.read_text("utf-8").split("\n")]
    assert not [(page.name, line) for page, line in lines if len(line) > 120]


def test_nav_has_every_page() -> None:
    """Each page is in the site's navigation, and each entry is a page."""
    nav = YAML(typ="safe").load(ROOT / "mkdocs.yml")["nav"]
    listed = re.findall(r"[\w/-]+\.md", str(nav))
    pages = (page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert sorted(listed) == sorted(pages)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_objects_exist(page: Path) -> None:
    """Each object whose docstring a page shows (`::: NAME`) is in the code."""
    for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.M):
        assert pkgutil.resolve_name(name)


def test_versions_agree() -> None:
    """CITATION.cff cites the version that pyproject.toml builds."""
    built = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert YAML(typ="safe").load(ROOT / "CITATION.cff")["version"] == built
