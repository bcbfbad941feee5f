"""`--chat` and `--system` on every command that takes a prompt."""

import json

import pytest
from chat_models import chat_model, truth
from zoo import TEXTS

import kvlens
from kvlens.cli.app import app

CHAT = "--chat --system 'Sum up.'"
COMMANDS = ("profile", "embed", "evaluate", "score", "sweep", "attend")


@pytest.fixture(scope="module")
def talker(place):
    folder = place / "talker"
    lm = chat_model()
    lm.hf.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return lm


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_with_a_prompt_has_the_flags(command):
    names = {name for each in app[command].assemble_argument_collection() for name in each.names}
    assert {"--chat", "--system"} <= names


@pytest.mark.slow
def test_a_profile_in_a_chat_embeds_in_the_chat(talker, place, run, capsys):
    texts = "--texts @texts.txt --n 60"
    assert run(f"profile @talker {texts} {CHAT} --estimators twonn -o @talked") == 0
    layers = kvlens.open(place / "talked" / "layers.json")
    expected = kvlens.chat(talker, system="Sum up.")
    assert layers.profile.prompt == layers.prompts.document == expected
    listed = ",".join(map(str, layers.layers))
    embed = "embed @talker -i @texts.txt"
    assert run(f"{embed} --layers @talked/layers.json -o @a.npy") == 0
    assert run(f"{embed} --layers {listed} {CHAT} -o @b.npy") == 0
    first, second = (kvlens.load_vectors(place / f"{name}.npy") for name in "ab")
    assert first.info.encoder == second.info.encoder
    assert (first.vectors == second.vectors).all()
    assert second.info.settings["document"]["chat"]["system"] == "Sum up."
    capsys.readouterr()


@pytest.mark.slow
def test_pairs_and_sweeps_in_a_chat(talker, place, run, pairs_file, capsys):
    line = f"evaluate @talker --pairs {pairs_file} --methods mean,kv_embedding --layers 1,2 --json"
    scores = []
    for options in ("", "--chat", CHAT):
        assert run(f"{line} {options}") == 0
        rows = json.loads(capsys.readouterr().out)
        scores.append([row["spearman"] for row in rows])
        shown = ["raw", "kv-document-inner"]
        assert [row["prompt"] for row in rows] == [n + "-chat" * bool(options) for n in shown]
    assert len({tuple(row) for row in scores}) == 3
    assert run(f"sweep @talker --pairs {pairs_file} --n 20 {CHAT} -o @swept.json") == 0
    assert kvlens.open(place / "swept.json").prompt == kvlens.chat(talker, system="Sum up.")


@pytest.mark.slow
def test_attention_in_a_chat(talker, place, run, capsys):
    assert run(f"attend @talker --layers 1,2 --text '{TEXTS[1]}' --chat -o @read") == 0
    patterns = kvlens.open(place / "read" / "patterns.safetensors")
    assert patterns.prompt == kvlens.chat(talker)
    ids = truth(talker.tokenizer, kvlens.PROMPTS["kv-document-inner"].render(TEXTS[1]))
    assert len(patterns.tokens) == len(ids)
    assert "".join(patterns.tokens[slice(*patterns.text_span)]).strip() == TEXTS[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "embed @gpt2 --method mean --chat",
            "no chat template: give a chat model, or leave out --chat",
        ),
        (
            "embed @talker --method mean --system x",
            "--system is the system line of a chat: give it with",
        ),
        (
            "embed @talker --method mean --chat --system '<|im_end|>'",
            "--system holds the special token",
        ),
    ],
)
def test_refusals_name_the_flags(talker, run, line, message, capsys):
    assert run(f"{line} -i @texts.txt -o @none.npy") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.strip().count("\n") == 0
