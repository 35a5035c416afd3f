"""Where a study's file is: the working directory first, then the packaged search spaces."""

from pathlib import Path

import search_spaces
from harness.errors import ConfigError
from harness.study_files.yaml12 import read_yaml
from harness.wording import nearest, show

# a command has it from --space, a script as an argument
_MUST = "the study must be a YAML file or a packaged space"
_FOLDER = Path(search_spaces.__path__[0]).resolve()


def packaged_names() -> tuple[str, ...]:
    """Names of the packaged studies, without .yaml."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def packaged_spaces() -> list[tuple[str, str]]:
    """(name, one-line description) of each packaged study."""
    rows = []
    for name in packaged_names():
        mapping = read_yaml(_FOLDER / f"{name}.yaml", name)
        rows.append((name, str(mapping.get("description", ""))))
    return rows


def find_space(path_or_name: str | Path) -> Path:
    """The YAML file that a user means; .yaml may be left out.

    Raises:
        ConfigError: there is none, or what was given is no name; the line lists the packaged names.
    """
    if not isinstance(path_or_name, str | Path):
        raise ConfigError([f"{_MUST}, got a {type(path_or_name).__name__} ({_choices()})"])
    given = Path(path_or_name)
    candidates = [given, Path(f"{path_or_name}.yaml")]
    if len(given.parts) == 1:
        candidates += [_FOLDER / given.name, _FOLDER / f"{given.name}.yaml"]
    for path in candidates:
        try:
            if path.is_file():
                return path
        except (OSError, ValueError):  # a name too long, or with a null byte
            continue
    near = nearest(given.stem, packaged_names())
    meant = f"did you mean {near}? " if near else ""
    got = "a folder, " if given.is_dir() else ""
    raise ConfigError([f"{_MUST}, got {got}{show(str(path_or_name))} ({meant}{_choices()})"])


def _choices() -> str:
    return f"choices: {', '.join(packaged_names())}"


def label_of(path: Path) -> str:
    """How faults name a file: as given, a packaged one as search_spaces/NAME.yaml."""
    inside = path.is_absolute() and path.parent == _FOLDER
    return f"search_spaces/{path.name}" if inside else str(path)
