"""docs/models.md says of each family what the tables of the zoo say, and the README its counts."""

import re
from pathlib import Path

import pytest
from families import NAMES
from family_cases import KEPT_OUT, RECORDED, REROUTED, STREAMS, UNREAD

pytestmark = pytest.mark.zoo

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", PAGE, re.MULTILINE))


def test_every_family_has_its_row():
    assert list(ROWS) == NAMES


def test_rows_say_what_the_tables_say():
    for name, row in ROWS.items():
        _, recording, keep, origin, to_know = row.split(" | ", 4)
        if name in RECORDED:
            assert recording in ("bridge", "raw", "both"), name
        elif name in STREAMS:
            assert recording == "keys, values", name
        else:
            assert recording == "refused", name
        assert keep == origin == ("exact" if name in REROUTED else "refused"), name
        if name in UNREAD or name in KEPT_OUT:
            assert re.search(r"\w{3}", to_know), "a refusal has its reason"


def test_counts_are_those_of_the_rows():
    alone = f"{len(STREAMS)} more record keys and values alone"
    counts = f"{len(RECORDED)} record exactly, {alone}, {len(REROUTED)} re-route exactly"
    assert counts in " ".join(PAGE.split())
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"Works on {len(REROUTED)} families" in readme
