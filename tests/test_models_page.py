"""docs/models.md says of each family what the tables of the zoo say, and the README its counts."""

import re
from pathlib import Path

import pytest
from families import NAMES
from family_cases import KEPT_OUT, RECORDED, REROUTED, UNREAD

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
        else:
            assert recording == "refused", name
        assert keep == origin == ("exact" if name in REROUTED else "refused"), name
        if name in UNREAD or name in KEPT_OUT:
            assert re.search(r"\w{3}", to_know), "a refusal has its reason"


def test_counts_are_those_of_the_rows():
    counts = f"{len(RECORDED)} record exactly, {len(REROUTED)} re-route exactly"
    assert counts in " ".join(PAGE.split())
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"Works on {len(REROUTED)} families" in readme
