"""What is said of a worker's death or of an error, by Ray's text about it."""

import pytest

from harness.ray.internals import last_error

CUDA = """Failure # 1 (occurred at 2026-11-30_05-00-00)
ValueError: an earlier one
Failure # 2 (occurred at 2026-11-30_05-01-00)
ray::ShipTrial() (pid=1, ip=127.0.0.1)
  File "worker.py", line 1, in setup
torch.AcceleratorError: CUDA error: device busy
CUDA kernel errors might be reported at some other call.
Compile with `TORCH_USE_CUDA_DSA`.
"""
DIED = """The actor died unexpectedly before finishing this task.
	class_name: ShipTrial
	pid: 7
Worker exits unexpectedly. The process receives a SIGTERM.
"""


@pytest.mark.parametrize(
    ("text", "begins", "lacks"),
    [
        (CUDA, "torch.AcceleratorError: CUDA error: device busy", "earlier"),
        (DIED, "The actor died unexpectedly before finishing this task. Worker exits", "pid"),
        ("", "its process ended without a word", "pid"),
    ],
)
def test_an_error_is_told_by_what_names_it(text: str, begins: str, lacks: str) -> None:
    """The last of several failures, in one line."""
    told = last_error(text)
    assert told.startswith(begins) and lacks not in told and "\n" not in told
