# The habits of CONTRIBUTING.md as short names; `just` alone lists them.

_list:
    @just --list

# ruff, import contracts and types
check:
    ruff check .
    ruff format --check .
    lint-imports
    mypy

# what the README promises: 2 to 3 minutes on two cores
test *args:
    pytest {{ args }}

# the tests that need no study, cluster or server
fast:
    pytest tests/ship tests/reports tests/test_docs.py tests/test_imports.py tests/test_source.py

# killed workers, nodes, drivers and servers; broken disks and links
faults:
    pytest -m faults

# lowest versions, fuzz tests with many examples, soaks: hours
weekly:
    bash .ci/weekly

# does every benchmark run? about 20 seconds
bench:
    python -m tests.bench

# write what is derived from code, then build the site
docs:
    python -m docs.write_reference
    python -m docs.draw_diagrams
    mkdocs build --strict
