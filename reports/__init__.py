"""Reports of studies: MLflow runs become a tidy frame, then tables, figures and an answer.

The package imports neither torch nor Ray. From Python:

    from reports import load_study
    study = load_study("prompt_len")
"""

from typing import TYPE_CHECKING, Any

from reports.errors import EmptyStudyError, ReportError

if TYPE_CHECKING:
    from reports.python import LoadedStudy, load_studies, load_study

_LAZY = ("LoadedStudy", "load_studies", "load_study")
__all__ = ["EmptyStudyError", "LoadedStudy", "ReportError", "load_studies", "load_study"]


def __getattr__(name: str) -> Any:
    """Import reports.python on first access to its names, so that --help does not load polars."""
    if name in _LAZY:
        from reports import python

        return getattr(python, name)
    raise AttributeError(f"module 'reports' has no attribute {name!r}")
