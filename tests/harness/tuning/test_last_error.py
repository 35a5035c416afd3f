"""What is told of a worker that could not start, from the file that Tune writes."""

from harness.tuning.worker_deaths import last_error

DIED = """Failure # 1 (occurred at 2026-11-26_14-38-09)
The actor died unexpectedly before finishing this task.
\tclass_name: bind.<locals>.Bound
\tactor_id: d526c9f1efbd7350b9ba689a01000000
The actor is dead because its owner has died.
The actor never ran - it was cancelled before it started running.
"""
RAISED = """Failure # 1 (occurred at 2026-11-26_14-38-09)
The actor died because of an error raised in its creation task, ray::Bound.__init__()
  File "trainable.py", line 1, in setup
RuntimeError: this worker lacks something
"""


def test_of_a_death_all_that_ray_says_is_told_without_ids() -> None:
    """The line that names the cause stands in the middle."""
    assert last_error(DIED) == (
        "The actor died unexpectedly before finishing this task. The actor is dead because its "
        "owner has died. The actor never ran - it was cancelled before it started running."
    )


def test_of_an_exception_its_last_line_is_told() -> None:
    """Of the last failure alone."""
    assert last_error(DIED + RAISED) == "RuntimeError: this worker lacks something"


def test_an_empty_file_says_so() -> None:
    """Tune may have written none."""
    assert last_error("") == last_error("\n") == "its process ended without a word"
