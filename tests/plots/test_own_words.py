"""Pictures of a word lens: numbers are those of the lens, tokens are legible."""

import pytest
from matplotlib.figure import Figure
from zoo import tiny

import kvlens
from kvlens.plots.own_words import has_heads, plot_own_words, plot_word_heads
from kvlens.plots.saving import save_word_plots
from kvlens.plots.word_grid import NOTHING, _drawable, plot_words
from kvlens.store.errors import InputError

TEXTS = ["the first $x^2$ text", "<script>alert(1)</script>", "日本語", "four"]


@pytest.fixture(scope="module")
def model():
    return tiny("llama")


@pytest.fixture(scope="module")
def lens(model):
    embeddings = kvlens.Encoder(model, "kv_embedding", [2]).encode(TEXTS)
    return kvlens.word_lens(model, TEXTS, embeddings, shown=3)


@pytest.fixture(scope="module")
def alone(model):
    return kvlens.word_lens(model, TEXTS[:1])


def test_curves_are_the_shares_beside_those_of_another_text(lens):
    for ax, centred in zip(plot_own_words(lens), (False, True), strict=True):
        lines = iter(ax.lines)
        for kind in ("v", "hidden"):
            shares = lens.shares_of(kind, centred)
            own, other = next(lines), next(lines)
            assert own.get_xdata().tolist() == [each.layer for each in shares]
            assert own.get_ydata().tolist() == [each.own for each in shares]
            assert list(other.get_ydata()) == [each.other for each in shares]
        (share,) = lens.shares_of("embedding", centred)
        assert [line.get_ydata()[0] for line in list(lines)[:2]] == [share.own, share.other]


def test_heads_are_a_map_of_what_they_gain(lens, alone):
    (image,) = plot_word_heads(lens).images
    values = image.get_array()
    assert values.shape == (4, 4)
    assert values.mask[:, 0].all()  # the prompt ends every text in one token
    for share in lens.shares_of("v", True, head=2):
        assert values[2, share.layer] == pytest.approx(share.own - share.other)
    assert not has_heads(alone)
    with pytest.raises(InputError, match="no heads of several texts"):
        plot_word_heads(alone)


def test_the_grid_shows_tokens_and_marks_own_ones(lens):
    writes, hidden = plot_words(lens, 1)
    cells = {(round(t.get_position()[0]), t.get_position()[1]): t for t in hidden.texts}
    for words in lens.words_of(1, "hidden", centred=True):
        for column in range(4):
            cell = cells[column, words.layer]
            assert cell.get_text() == _drawable(words.tokens[column])
            assert (cell.get_fontweight() == "bold") == words.own[column]
    assert NOTHING in {text.get_text() for text in writes.texts}


def test_every_letter_is_legible():
    assert _drawable(" Rain") == "Rain"
    assert _drawable("\n\n") == "↵↵"
    assert _drawable("\x1b[31m") == r"\x1b[31m"
    assert _drawable("\u202eabc") == r"\u202eabc"
    assert _drawable("дом") == "дом"
    assert _drawable("\U000e0041") in (r"\U000e0041", "\U000e0041")
    assert len(_drawable("a" * 40)) == 13


def test_one_text_is_drawn_as_it_is(alone, tmp_path):
    assert len(plot_own_words(alone)) == 1
    names = {path.name for path in save_word_plots(alone, tmp_path)}
    assert names == {
        f"{name}.{kind}" for name in ("own_words", "words_1") for kind in ("png", "pdf")
    }
    with pytest.raises(InputError, match="states of one text"):
        plot_words(alone, centred=True)


def test_axes_of_another_number_and_texts_that_are_not_shown_are_refused(lens):
    with pytest.raises(InputError, match="`axes` are 1, this lens needs 2"):
        plot_own_words(lens, [Figure().subplots()])
    with pytest.raises(InputError, match="`axes` are 1, two are needed"):
        plot_words(lens, axes=[Figure().subplots()])
    with pytest.raises(InputError, match="`text` is 3, this lens shows 3 texts"):
        plot_words(lens, 3)


def test_a_picture_in_a_notebook(lens):
    assert 'alt="share of the text&#x27;s own words by layer"' in lens._repr_html_()
