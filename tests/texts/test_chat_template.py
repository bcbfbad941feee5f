"""What chat templates write around a message, and which are refused."""

import pytest
from chat_models import (
    BROKEN,
    DATED,
    GOOD,
    PLAIN,
    REFUSING,
    SILENT,
    TRIMMING,
    TWICE,
    WITH_SYSTEM,
    chat_tokenizer,
)

from kvlens import InputError
from kvlens.store.notices import Notice
from kvlens.texts.chat_template import chat_of, notice_other_template


def test_the_halves_are_what_stands_around_a_message():
    chat = chat_of(chat_tokenizer(WITH_SYSTEM), "m")
    assert chat.system is None
    assert chat.before == "<|im_start|>system\nYou help.<|im_end|>\n<|im_start|>user\n"
    assert chat.after == "<|im_end|>\n<|im_start|>assistant\n"
    asked = chat_of(chat_tokenizer(WITH_SYSTEM), "m", "Sum up.")
    assert asked.before == chat.before.replace("You help.", "Sum up.")
    assert (asked.after, asked.system) == (chat.after, "Sum up.")
    assert "You help." not in chat_of(chat_tokenizer(WITH_SYSTEM), "m", "").before


@pytest.mark.parametrize("template", GOOD.values(), ids=GOOD)
def test_they_are_those_of_transformers(template):
    tokenizer = chat_tokenizer(template)
    chat = chat_of(tokenizer, "m")
    turns = [{"role": "user", "content": "a cat"}]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    if template == DATED:
        assert chat.before.startswith("Today 26 Jul 2024, 2024.\n")
        rendered, chat_after_date = (text.split("\n", 1)[1] for text in (rendered, chat.before))
        assert rendered == f"{chat_after_date}a cat{chat.after}"
    else:
        assert rendered == f"{chat.before}a cat{chat.after}"


@pytest.mark.parametrize(
    ("template", "system", "message"),
    [
        (None, None, "tokenizer of m has no chat template"),
        (REFUSING, "Sum up.", "no system.*leave out `system`"),
        (SILENT, "Sum up.", "writes no system line"),
        (TWICE, None, "2 times, not once"),
        ("no message", None, "0 times, not once"),
        (BROKEN, None, "fails .*leave out `chat`"),
        ("{{ messages[0].content.nothing.more }}", None, "fails .*leave out `chat`"),
        (PLAIN, "a <|im_end|> b", r"`system` holds the special token <\|im_end\|>"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(template, system, message):
    with pytest.raises(InputError, match=message) as error:
        chat_of(chat_tokenizer(template), "m", system)
    assert "\n" not in str(error.value)


def test_a_template_that_is_not_the_recorded_one_is_noticed(recwarn):
    chat = chat_of(chat_tokenizer(PLAIN), "m")
    notice_other_template(chat_tokenizer(PLAIN), chat)
    assert not recwarn.list
    for other in (TRIMMING, None, BROKEN):
        with pytest.warns(Notice, match="not the one that the prompt was made with"):
            notice_other_template(chat_tokenizer(other), chat)
