"""Parameters in a message become flags of the running command."""

import pytest

from kvlens.cli.app import app
from kvlens.cli.flags import flags_in


@pytest.mark.parametrize(
    ("command", "message", "shown"),
    [
        ("profile", 'try `dtype="float32"`', "try --dtype float32"),
        ("profile", "`overwrite=True` replaces it", "--overwrite replaces it"),
        ("profile", "leave out `strict=True`", "leave out --strict"),
        ("profile", "give another `output`", "give another -o"),
        ("profile", "`max_length` is 3", "--max-length is 3"),
        ("embed", "give another `target`, or `resume=True`", "give another -o, or --resume"),
        ("embed", "`source` is a folder", "-i is a folder"),
        ("report", "give `lm=None`", "give `lm=None`"),
        ("report", "make it with `kvlens profile MODEL`", "make it with `kvlens profile MODEL`"),
        ("models", "`overwrite=True` replaces it", "`overwrite=True` replaces it"),
        ("profile", "`names` of models", "`names` of models"),
        ("evaluate", "`limit=5` and `layers=7-10`", "--limit 5 and --layers 7-10"),
    ],
)
def test_flags_of_the_running_command(command, message, shown):
    assert flags_in(message, app[command].assemble_argument_collection()) == shown
