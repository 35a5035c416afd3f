"""The pages agree with the code: links, options, studies, messages, and generated parts."""

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

from docs.absolute_links import make_links_absolute
from docs.cli_reference import CLI_PAGE, make_cli_reference
from docs.draw_diagrams import (
    IMAGES,
    RESULT,
    STEPS,
    draw_concepts,
    draw_layers,
    draw_result,
    draw_trial,
)
from docs.draw_readme import IMAGE, read_first_table, replace_first_table
from docs.draw_readme import PAGES as PAGES_WITH_TABLE
from docs.write_reference import PAGE, make_reference
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


def remove_code(text: str) -> str:
    """Return a page without its code."""
    return re.sub(r"```.*?```|`[^`\n]*`|^    .*$", "", text, flags=re.DOTALL | re.MULTILINE)


def find_anchors(text: str) -> set[str]:
    """Return the targets of links within a page: its headings, and `<a id="...">`."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    heads = re.findall(r"^#+ (.*)$", prose, flags=re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
    return slugs | set(re.findall(r'<a id="([\w-]+)">', prose))


def find_broken_links(page: Path) -> Iterator[str]:
    """Yield a message for each relative link of a page without an existing target."""
    for target in re.findall(r"\]\(([^)\s]+)\)", remove_code(page.read_text("utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists():
            yield f"{page.name}: no file {target}"
        elif anchor and anchor not in find_anchors(path.read_text("utf-8")):
            yield f"{page.name}: no heading {target}"


def list_commands() -> dict[str, set[str]]:
    """Return the options of each command by its full name, e.g. "ship-sweep list"."""
    apps = {"ship-sweep": sweep, "ship-report": report, "ship-data": data}
    options = {}
    for name, app in apps.items():
        command = get_command(app)
        options[name] = list_options(command)
        for subcommand, child in getattr(command, "commands", {}).items():
            options[f"{name} {subcommand}"] = list_options(child)
    return options


def test_every_option_has_a_help_text() -> None:
    """Arguments have one, too."""
    roots = [get_command(app) for app in (sweep, report, data)]
    children = [child for root in roots for child in getattr(root, "commands", {}).values()]
    params = [param for command in (*roots, *children) for param in command.params]
    assert params and not [param.name for param in params if not param.help]


def list_options(command: click.Command) -> set[str]:
    """Return the long options of a command."""
    options = (option for param in command.params for option in param.opts)
    return {"--help", *(option for option in options if option.startswith("--"))}


def find_code(page: Path) -> Iterator[str]:
    """Yield the code of a page: the lines of blocks, and spans."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    yield from re.findall(r"^    (.*)$", text, flags=re.MULTILINE)
    yield from (
        line for block in re.findall(r"```.*?```", text, re.S) for line in block.split("\n")
    )
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def find_wrong_options(page: Path) -> Iterator[str]:
    """Yield the commands of a page with each option or subcommand that does not exist."""
    options_by_command = list_commands()
    # "ship-sweep list" before "ship-sweep"
    names = "|".join(sorted(options_by_command, reverse=True))
    for code in find_code(page):
        match = re.search(rf"\b({names})(?=\s|$)(.*)", code)
        if match and "`" not in code:
            command, arguments = match[1], match[2].split(" > ")[0].split("#")[0]
            options = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", arguments))
            wrong = options - options_by_command[command]
            if command in ("ship-sweep", "ship-data"):
                wrong |= set(re.findall(r"^ ([a-z]+)", arguments))
            yield from (f"{page.name}: {command} {word}" for word in sorted(wrong))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_have_an_existing_target(page: Path) -> None:
    """The target of a relative link is a file, or a heading of a file."""
    assert not list(find_broken_links(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_exist(page: Path) -> None:
    """Commands of a page have only existing options and subcommands."""
    assert not list(find_wrong_options(page))


def test_wrong_links_and_options_are_detected(tmp_path: Path) -> None:
    """Missing files, missing headings, and unknown options and subcommands are reported."""
    page = tmp_path / "page.md"
    code = "    ship-sweep --nothing\n    ship-sweep list --space x\n    ship-sweep lists\n"
    page.write_text(f"# A head\n[a](no.md) [b](#none) [c](#a-head)\n\n{code}")
    assert list(find_broken_links(page)) == ["page.md: no file no.md", "page.md: no heading #none"]
    wrong = ["ship-sweep --nothing", "ship-sweep list --space", "ship-sweep lists"]
    assert list(find_wrong_options(page)) == [f"page.md: {text}" for text in wrong]


def test_studies_exist() -> None:
    """Studies that a page runs are packaged, and the page of results has every packaged study."""
    code = [line for page in PAGES for line in find_code(page)]
    names = {name for line in code for name in re.findall(r"--space (\w+)\.yaml", line)}
    results = (DOCS / "results.md").read_text("utf-8")
    custom = {"lengths", "mine", "my_study", "three"}  # studies whose YAML is on a page
    assert names and names - custom <= STUDIES
    unlisted = {name for name in STUDIES if f"`{name}`" not in results}
    assert unlisted <= {"prompt_len", "template"}


def test_keys_exist() -> None:
    """Pages set only keys of a study on a command line."""
    code = [line for page in PAGES for line in find_code(page)]
    keys = {key for line in code for key in re.findall(r"--set '?([a-z_]+)[.=]", line)}
    assert keys and keys <= {*STUDY_KEYS, *TrialConfig.model_fields}


def test_generated_pages_are_up_to_date() -> None:
    """If this fails, run python -m docs.write_reference."""
    assert PAGE.read_text("utf-8") == make_reference()
    assert CLI_PAGE.read_text("utf-8") == make_cli_reference()


def test_command_line_reference_has_every_option() -> None:
    """Each command has a section, which contains all of its options."""
    sections = dict(re.findall(r"^##+ (.*)\n((?:(?!##).*\n)*)", make_cli_reference(), re.MULTILINE))
    for name, options in list_commands().items():
        missing = [
            option
            for option in options - {"--help"}
            if not re.search(rf"`{option}[ `]", sections[name])
        ]
        assert not missing, name


def test_diagrams_are_up_to_date() -> None:
    """If this fails, run python -m docs.draw_diagrams. The files in the diagrams exist."""
    assert (IMAGES / "concepts.svg").read_text("utf-8") == draw_concepts()
    assert (IMAGES / "layers.svg").read_text("utf-8") == draw_layers()
    assert (IMAGES / "trial.svg").read_text("utf-8") == draw_trial()
    assert (IMAGES / "result.svg").read_text("utf-8") == draw_result()
    files = [file for package, _, file in (*STEPS, *RESULT) if package]
    assert files and not [file for file in files if not (ROOT / file).exists()]


def test_glossary_is_complete_and_sorted() -> None:
    """It contains the words of all column headings."""
    text = (DOCS / "glossary.md").read_text("utf-8")
    entries = [
        re.sub(r"[^\w ]", "", head).lower() for head in re.findall(r"^- \*\*(.+?)\*\*", text, re.M)
    ]
    words = [entry for entry in entries if entry.isascii() and entry]
    assert len(words) > 50 and words == sorted(words)
    headings = {head for protocol in PROTOCOLS.values() for head in protocol.headings.values()}
    headings |= {part for measure in MEASURES for part in measure.heading.split(" / ")}
    explained = {"Average", "Source", "Acc."}
    heading_words = {word for head in headings for word in head.split()} - explained
    assert not [word for word in heading_words if word.rstrip(".").lower() not in text.lower()]


def test_tables_of_the_pages_equal_the_table_in_the_image() -> None:
    """They may have fewer columns. If this fails, run python -m docs.draw_readme STORE."""
    with Image.open(IMAGE) as image:
        table = json.loads(image.info["table"])
    texts = [path.read_text("utf-8") for path in PAGES_WITH_TABLE]
    assert texts
    assert all(
        read_first_table(text) and replace_first_table(text, table) == text for text in texts
    )


def test_readme_for_a_package_index_has_no_relative_link() -> None:
    """Links to pages and images become absolute. Links to other sites are unchanged."""
    text = make_links_absolute(
        (ROOT / "README.md").read_text("utf-8"), "https://host/project", "v1"
    )
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert targets and all(target.startswith("https://") for target in targets)
    assert "![The report page" in text and "(https://host/project/raw/v1/docs/images/" in text
    assert "(https://host/project/blob/v1/docs/faq.md)" in text
    assert "(https://arxiv.org/abs/2307.07397)" in text


def test_files_named_in_contributing_exist() -> None:
    """CONTRIBUTING.md names only existing files and folders of the code."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = re.findall(r"`((?:ship|harness|reports|tests)/[\w/.]+)`", text)
    assert len(paths) > 10 and not [path for path in paths if not (ROOT / path).exists()]


def test_messages_on_the_page_of_errors_are_in_the_code() -> None:
    """Messages in bold are quoted word for word."""
    messages = re.findall(r"\*\*`(.+?)`\*\*", (DOCS / "errors.md").read_text("utf-8"))
    paths = (
        path
        for package in ("ship", "harness", "reports")
        for path in ROOT.glob(f"{package}/**/*.py")
    )
    code = "".join(path.read_text("utf-8") for path in paths)
    assert len(messages) > 15 and not [message for message in messages if message not in code]


def test_every_tag_is_documented() -> None:
    """The page on MLflow has all tags of ship-sweep, and no others."""
    tags = set(re.findall(r"`(ship\.\w+)`", (DOCS / "mlflow.md").read_text("utf-8")))
    assert tags == {tag.value for tag in Tag if tag.startswith("ship.")}


def test_each_fault_has_tests() -> None:
    """promises.yaml lists the faults of the page in order, each with existing tests."""
    page, folder = (DOCS / "faults.md").read_text("utf-8"), ROOT / "tests" / "harness"
    rows = re.findall(r"^\|(.+?)(?: \(`[^|]*)? \|", page, flags=re.MULTILINE)
    faults = [row for row in rows if row not in ("Fault", ":--")]
    promises = YAML(typ="safe").load(folder / "promises.yaml")
    assert len(faults) > 15 and [promise["fault"] for promise in promises] == faults
    for name in (test for promise in promises for test in promise["tests"]):
        path, test = name.split("::")
        file = (ROOT if path.startswith("tests/") else folder) / path
        assert file.exists() and f"\ndef {test}(" in file.read_text("utf-8"), name


def test_pages_are_short_and_narrow() -> None:
    """The README has at most 900 words, and lines of pages at most 120 characters."""
    words = (ROOT / "README.md").read_text("utf-8").split()
    assert len([word for word in words if re.search(r"\w", word)]) <= 900
    lines = [(page, line) for page in PAGES for line in page.read_text("utf-8").split("\n")]
    assert not [(page.name, line) for page, line in lines if len(line) > 120]


def test_navigation_has_every_page() -> None:
    """Each page of docs/ is in mkdocs.yml once, and each entry is a page."""
    nav = YAML(typ="safe").load(ROOT / "mkdocs.yml")["nav"]
    entries = re.findall(r"[\w/-]+\.md", str(nav))
    pages = (page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))
    assert sorted(entries) == sorted(pages)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_objects_exist(page: Path) -> None:
    """Pages show the docstrings (`::: NAME`) of existing objects."""
    for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), re.M):
        assert pkgutil.resolve_name(name)


def test_versions_agree() -> None:
    """CITATION.cff cites the version that pyproject.toml builds."""
    built = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert YAML(typ="safe").load(ROOT / "CITATION.cff")["version"] == built
