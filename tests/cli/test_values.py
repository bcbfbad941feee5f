"""What the text of an option becomes."""

import pytest

from kvlens import InputError
from kvlens.cli.values import layers_or_file, shown_default, split_names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("twonn, mle", ("twonn", "mle")),
        ("MTEB(eng, v2),STS12", ("MTEB(eng, v2)", "STS12")),
        ("token_prepending:depth=[0.5,1],mean", ("token_prepending:depth=[0.5,1]", "mean")),
    ],
)
def test_a_comma_in_brackets_belongs_to_its_name(text, names):
    assert split_names(text) == names


def test_layers_or_their_file(tmp_path):
    file = tmp_path / "7"
    assert layers_or_file("7-9,12") == (7, 8, 9, 12)
    assert layers_or_file("runs/a/layers.json") == "runs/a/layers.json"
    assert layers_or_file(None) is None
    file.write_text("")
    assert layers_or_file(str(file)) == str(file)
    with pytest.raises(InputError, match="nor a file"):
        layers_or_file("7-")


def test_defaults_as_the_help_shows_them():
    assert [shown_default(value) for value in (None, False, ())] == [None] * 3
    assert shown_default(("twonn", "mle")) == "twonn,mle"
    assert shown_default((1.0,)) == "1"
    assert shown_default(0.10) == "0.1"
