"""Every code block of the README and the documentation runs."""

import copy
import functools
import json
import shutil
from pathlib import Path

import pytest
import transformers as tf
from docs_code import LANGUAGES, LEAST, Runner, blocks, pages

import kvlens
import kvlens.models.loading

ALL = {page: blocks(page) for page in pages()}
MOST_NOT_RUN = 8
N_PAIRS = 200  # a choice takes a quarter of a fifth of them


def test_every_block_says_its_language():
    for found in ALL.values():
        for block in found:
            assert block.language in LANGUAGES, f"{block.page}:{block.line}"


def test_few_blocks_are_not_run():
    left_out = [block for found in ALL.values() for block in found if block.reason]
    assert len(left_out) <= MOST_NOT_RUN


@pytest.fixture(scope="module")
def place(tmp_path_factory, smollm):
    """A folder with what the pages' commands read: two tiny models, texts, pairs, tasks."""
    folder = tmp_path_factory.mktemp("docs")
    _tiny_model(smollm, folder / "models/smollm2-135m", {})
    _tiny_model(smollm, folder / "models/shallow", {"num_hidden_layers": 3})
    texts = kvlens.calibration_texts(LEAST).items
    for name in ("texts.jsonl", "my.jsonl"):
        _write(folder / name, [{"text": text, "body": text} for text in texts])
    pairs = [
        {"sentence1": texts[i % LEAST][:40], "sentence2": texts[i // 4][:40], "score": i % 6}
        for i in range(N_PAIRS)
    ]
    for name in ("validation.jsonl", "data/STSBenchmark/test.jsonl", "data/SICK-R/test.jsonl"):
        _write(folder / name, pairs)
    return folder


def _write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))


def _tiny_model(smollm: kvlens.LanguageModel, folder: Path, changes: dict[str, int]) -> None:
    """SmolLM2's layers, heads and tokenizer, so that every index on the pages is there; thin."""
    config = copy.deepcopy(smollm.hf.config)
    config.update({"hidden_size": 36, "intermediate_size": 48, "head_dim": 4, **changes})
    config.initializer_range = 0.2
    tf.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    smollm.tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def runner(place):
    return Runner(place / "models/smollm2-135m", place / "models/shallow")


@pytest.fixture(scope="module")
def names(place, runner):
    """What a page's blocks may use without having made it; a model is loaded once for all."""
    with pytest.MonkeyPatch.context() as patch:
        load = functools.lru_cache(kvlens.models.loading.load)
        patch.setattr(kvlens.models.loading, "load", load)
        patch.setattr(kvlens, "load", load)
        patch.chdir(place)
        runner.make_run()
        shutil.copy("runs/smollm2-135m/layers.json", "layers.json")
        lm = load(runner.deep)
        yield {
            "kvlens": kvlens,
            "lm": lm,
            "model": lm.hf,
            "tokenizer": lm.tokenizer,
            "texts": kvlens.calibration_texts(LEAST).items,
            "profile": kvlens.open("runs/smollm2-135m/profile.json"),
        }


PAGES_WITH_CODE = [page for page in ALL if ALL[page]]


@pytest.mark.real
@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_blocks_run_as_they_stand(page, runner, names):
    _run(page, runner, names)


@pytest.mark.torture
@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_every_command_runs(page, runner, names):
    runner.thorough = True
    _run(page, runner, names)


def _run(page: str, runner: Runner, names: dict) -> None:
    own = dict(names)
    for block in ALL[page]:
        if not block.is_left_out:
            runner.run(block, own)
