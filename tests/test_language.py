"""Names, docstrings, messages and pages have the field's words. ruff's D401 checks first lines."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [path for name in ("ship", "harness", "reports") for path in (ROOT / name).rglob("*.py")]
# Names that do not say what a variable contains.
EMPTY_NAMES = frozenset(
    {"asked", "found", "given", "held", "made", "must", "one", "others", "own", "said", "told"}
)
# Functions are named by a verb and a noun: `format_level`, not `level_text`. This matches names
# that end in a kind of result and do not begin with one of these verbs. Add missing verbs.
RESULT = re.compile(
    r"(?!_?(add|average|build|check|clean|collect|create|escape|find|fit|format|get|is|join|list"
    r"|load|make|normalize|predict|read|rename|render|require|resample|select|shorten|split|stack)_)"
    r"_?(\w+_)?(text|notes?|cells?|charts?|tables?|findings?|columns?|groups?|family|axis|labels?"
    r"|layers?|names?)"
)
# A line of a docstring that is a clause without a noun: "Of a run", "What it holds".
CLAUSE = re.compile(r"\s*(Of|Whose|That of|What) ")

# Words of an earlier private language, and what replaced them.
DENIED = {
    r"pictures?(?!/)": "image",
    r"replicas?": "seed, or trial",
    r"anew": "again",
    r"beside": "next to, in addition to",
    r"whoever|nobody|somebody": "a role: driver, worker, user, server",
    r"one's own": "custom",
    r"(has|have) come to": "is, results in",
    r"must come without": "cannot be combined with",
    r"of no axis": "scalar",
    r"(reference )?arms?": "control",
    r"rivals?": "competing",
    r"(images|seconds|epochs) a (class|seed|trial|run|step|epoch)": "per",
}
DENIED_WORD = re.compile(rf"\b({'|'.join(DENIED)})\b", re.IGNORECASE)
# Texts that need such a word: the column of a file, and Kubernetes' own key.
ALLOWED = {"picture", "replicas"}
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *(ROOT / "docs").rglob("*.md"),
]
# The left column of the changelog's table, which has old names.
OLD_NAMES = re.compile(r"^\|[^|]*\|", re.MULTILINE)


def find_empty_names(tree: ast.AST) -> Iterator[str]:
    """Yield variables whose names do not describe their content. Fields of classes are allowed."""
    fields = {
        id(statement.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
    }
    for node in ast.walk(tree):
        is_bound = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        if is_bound and node.id in EMPTY_NAMES and id(node) not in fields:
            yield f"line {node.lineno}: {node.id}"


def find_noun_functions(tree: ast.Module) -> Iterator[str]:
    """Yield the functions that are named like their results."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    yield from (node.name for node in functions if RESULT.fullmatch(node.name))


def find_clauses(tree: ast.AST) -> Iterator[str]:
    """Yield the lines of docstrings that are clauses without a noun."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            yield from (line.strip() for line in text.splitlines() if CLAUSE.match(line))


def test_variable_names_describe_their_content() -> None:
    """No variable of the packages and their tests is called `one`, `found` or `told`."""
    assert len(SOURCES) > 200
    assert not [
        f"{path.relative_to(ROOT)}, {name}"
        for path in (*SOURCES, *(ROOT / "tests").rglob("*.py"))
        for name in find_empty_names(ast.parse(path.read_text("utf-8")))
    ]


def test_functions_are_named_by_a_verb() -> None:
    """`make_factor_chart`, not `factor_chart`."""
    assert not [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        for name in find_noun_functions(ast.parse(path.read_text("utf-8")))
    ]


def test_functions_without_a_verb_are_detected() -> None:
    """Private functions, too. Methods and properties may be nouns."""
    names = ("level_text", "_note", "factor_chart", "make_note", "is_name", "charts_of")
    source = "\n".join(f"def {name}(): ..." for name in names)
    source += "\nclass A:\n    def label(self): ...\n"
    assert [*find_noun_functions(ast.parse(source))] == ["level_text", "_note", "factor_chart"]


def test_docstrings_are_sentences() -> None:
    """No line of a docstring is a clause without a noun."""
    assert not [
        f"{path.relative_to(ROOT)}: {line}"
        for path in SOURCES
        for line in find_clauses(ast.parse(path.read_text("utf-8")))
    ]


def find_denied_words(path: Path) -> Iterator[str]:
    """Yield the denied words of a page, or of the texts and docstrings of a source."""
    content = path.read_text("utf-8")
    if path.suffix == ".py":
        nodes = [node for node in ast.walk(ast.parse(content)) if isinstance(node, ast.Constant)]
        texts = [node.value for node in nodes if isinstance(node.value, str)]
    else:
        texts = [OLD_NAMES.sub("", content) if path.name == "CHANGELOG.md" else content]
    for text in texts:
        if text not in ALLOWED:
            yield from (f"{path.name}: {match[0]}" for match in DENIED_WORD.finditer(text))


def test_messages_and_pages_have_no_denied_words() -> None:
    """Docstrings have none of them either."""
    paths = [*SOURCES, *PAGES]
    assert not [word for path in paths for word in find_denied_words(path)]


def test_denied_words_are_detected(tmp_path: Path) -> None:
    """They are reported in docstrings, messages and pages, except as old names."""
    source, page = tmp_path / "a.py", tmp_path / "a.md"
    source.write_text('"""Pictures."""\nerror = f"{x} beside levels"\nreplicas = 2\n')
    page.write_text("4 images a class, as whoever runs it has.")
    words = [word for path in (source, page) for word in find_denied_words(path)]
    assert words == ["a.py: Pictures", "a.py: beside", "a.md: images a class", "a.md: whoever"]
    page.with_name("CHANGELOG.md").write_text("| `ship.arm` | picture |\n")
    assert [*find_denied_words(page.with_name("CHANGELOG.md"))] == ["CHANGELOG.md: picture"]


@pytest.mark.parametrize(
    ("source", "n_names", "n_clauses"),
    [
        ("found = [one for one in rows]", 2, 0),
        ("class A:\n    own: int = 0\n", 0, 0),
        ('def f(x):\n    """Return x.\n\n    Of a run.\n    What it holds.\n    """', 0, 2),
        ('rows = [row for row in runs]\n"""Text that is no docstring."""', 0, 0),
    ],
)
def test_empty_names_and_clauses_are_detected(source: str, n_names: int, n_clauses: int) -> None:
    """Fields of classes, and texts that are not docstrings, are not reported."""
    tree = ast.parse(source)
    assert len(list(find_empty_names(tree))) == n_names
    assert len(list(find_clauses(tree))) == n_clauses
