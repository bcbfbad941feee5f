"""A message is one printable line."""

from kvlens import InputError
from kvlens.store.errors import LONGEST_LINE, one_line, shortened


def test_a_message_cannot_move_the_cursor_or_break_the_line():
    message = str(InputError("cannot read a\x1b[31mred\nname\t\u202e\udc80.json"))
    assert message == r"cannot read a\x1b[31mred\nname\t\u202e\udc80.json"


def test_letters_of_all_languages_stay():
    assert str(InputError("Grüße, 日本語, a\\b")) == "Grüße, 日本語, a\\b"


def test_long_reasons_are_cut():
    assert len(one_line(ValueError("x" * 10_000))) == 160
    assert one_line(ValueError("\n  \n  first\x1b words \n second")) == r"first\x1b words"
    assert one_line(ValueError()) == "ValueError"
    assert len(shortened("x" * 10_000)) == LONGEST_LINE
    assert shortened("short") == "short"
