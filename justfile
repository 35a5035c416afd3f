# Short names for the commands of CONTRIBUTING.md. `just` without arguments lists them.

_list:
    @just --list

# run ruff, import contracts and mypy
check:
    ruff check .
    ruff format --check .
    lint-imports
    mypy

# run the test command of the README: about 5 minutes on two cores
test *args:
    pytest {{ args }}

# run the tests that need no study, cluster or server
fast:
    pytest tests/ship tests/reports tests/test_docs.py tests/test_imports.py tests/test_source.py

# run the tests of killed workers, nodes, drivers and servers, and of broken disks
faults:
    pytest -m faults

# run the lowest versions, fuzz tests with many examples, and soak tests: hours
weekly:
    bash .ci/weekly

# check that every benchmark runs: about 20 seconds
bench:
    python -m tests.bench

# write the generated pages and diagrams, then build the site
docs:
    python -m docs.write_reference
    python -m docs.draw_diagrams
    mkdocs build --strict
