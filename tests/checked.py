"""What checks annotations while tests run; named in tests/conftest.py."""

from beartype import BeartypeConf, beartype

# an int may stand for a float, as the static type checker has it
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
