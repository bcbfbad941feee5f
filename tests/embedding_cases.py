"""Layer sets without a profile, a forward pass done by hand, and what a run has written."""

import json
from dataclasses import replace

import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode
from zoo import TEXTS

import kvlens
from kvlens.dimension.profile import IDEstimate, IDProfile
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.texts import TextsInfo

LAYERS = (1, 2)
ENDINGS = (".npy", ".safetensors", ".parquet")
DUPLICATED = [*TEXTS, "a cat", "é 漢字 🙂", "", "a cat"]
HOSTILE = [
    "{text}",
    "{} {0} {first} {{text}} %s $text",
    "<eos>",
    "<pad><bos>a<eos>",
    "Context: a Compress the Context in one word:",
    '" means in one word:"',
    "\\n\t'quoted' \"twice\"",
    " ",
    "é 漢字 🙂 \x00\x7f",
]


def layer_set(lm, layers=LAYERS, **settings):
    """A layer set of rule `explicit`, on a profile that is made up."""
    estimates = tuple(
        IDEstimate(layer=i, value=9.0 + i, stderr=0.1, n=100, dropped=0, warnings=())
        for i in range(lm.info.n_layers)
    )
    profile = IDProfile(
        format="kvlens.id-profile",
        model=lm.info,
        states="hidden",
        points="last",
        prompt=PROMPTS["kv-document-inner"],
        texts=TextsInfo(source="made up", n=100, sha256="0" * 64),
        estimates={"twonn": estimates},
        scales=(),
        versions={},
    )
    return kvlens.select(profile, "explicit", layers=layers, **settings)


def other(lm, **facts):
    """The same weights under another identity."""
    return replace(lm, info=lm.info.model_copy(update=facts))


def ids_of(text):
    """The byte tokenizer of the zoo, by hand: no special token can come out of a text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = bytes_to_unicode()
    return torch.tensor([[3 + alphabet.index(names[byte]) for byte in text.encode()]])


def by_hand(lm, rendered, pooling="hybrid", layers=LAYERS, bias=1.0, position="keep"):
    """One vector of one prompted text, without batches, masks, prompts or the tokenizer."""
    with kvlens.reroute(lm, layers, bias, position), torch.no_grad():
        states = lm.base(ids_of(rendered), use_cache=False).last_hidden_state[0].double().numpy()
    vector = {
        "last": states[-1],
        "mean": states.mean(0),
        "hybrid": (states[-1] + states.mean(0)) / 2,
    }[pooling]
    return vector / np.linalg.norm(vector) if pooling == "hybrid" else vector


def write_jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def files(folder):
    """Every file below a folder, with its bytes."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def output(folder, target):
    """Every byte that a run has written, by what follows the target's name."""
    written = {str(path): data for path, data in files(folder).items()}
    return {
        name.removeprefix(target): data for name, data in written.items() if name.startswith(target)
    }


def stop_after(calls):
    """A progress that is interrupted at its n-th call."""
    left = [calls]

    def progress(done, total):
        left[0] -= 1
        if left[0] <= 0:
            raise KeyboardInterrupt

    return progress


def sample(n, d, seed=0):
    """Correlated coordinates, axes 100-fold apart, far from the origin, as language models have."""
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(d, d)))
    mixed = rng.normal(size=(n, d)) * np.geomspace(0.1, 10, d) @ turn
    return (mixed + rng.normal(size=d) * 5).astype(np.float32)
