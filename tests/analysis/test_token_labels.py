"""Token labels: tokens as people read them."""

from zoo import byte_tokenizer

from kvlens.analysis.token_labels import readable_tokens, token_label


def test_tokens_read_as_text():
    tokenizer = byte_tokenizer()
    words = readable_tokens(tokenizer, tokenizer("a €!").input_ids)
    assert words == ("a", " ", "…", "…", "€", "!")


def test_labels_show_white_space_and_are_cut():
    assert token_label(" river") == "river"
    assert token_label("\n") == "↵"
    assert token_label("    ") == "␣␣␣"
    assert token_label("a-long-token-x", most=6) == "a-lon…"
