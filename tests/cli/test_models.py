"""`kvlens models`."""

import json


def test_it_lists_the_named_ones(run, capsys):
    assert run("models --json") == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)]
    assert names == ["smollm2-135m", "gemma3-270m"]
