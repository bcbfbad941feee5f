"""Threads: everything that runs a model, side by side on one loaded model, against one thread.

The law: what an action returns in a thread is, bit for bit, what it returns alone; none fails; and
afterwards no hook is left. A case is known by its seed and its number.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from zoo import TEXTS, tiny

import kvlens
from kvlens.embedding.cache import EmbeddingCache
from kvlens.methods.registry import self_contained, takes_layers
from kvlens.texts.pairs import Pairs
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.tokens import tokenize

ARCHITECTURES = ("llama", "gemma2", "gpt2", "qwen3", "neox")
LAYERS = (1, 2)
ROUNDS = 3  # of its action, in each thread
BATCH_TOKENS = 64  # so that every action runs several batches
SWITCH_SECONDS = 1e-5  # between threads: the shorter, the more mixing
MANY = (3, 4)  # threads of the cases that come after all pairs
TOO_LONG = 60.0  # seconds of a thread: it waits for ever


@dataclass(frozen=True)
class Stage:
    """One loaded model, nothing built on it yet, and what the threads share.

    Attributes:
        lm: the model.
        saved: the folder of another model, to load.
        folder: for files, of this stage alone.
    """

    lm: kvlens.LanguageModel
    saved: Path
    folder: Path

    @cached_property
    def encoders(self) -> dict[str, kvlens.Encoder]:
        """An encoder of every method; and re-routing's control, which has no layers."""
        layers = {name: LAYERS if takes_layers(name) else None for name in self_contained()}
        encoders = {name: self.encoder(name, layers=layers[name]) for name in self_contained()}
        return {**encoders, "control": self.encoder("kv_embedding", layers=())}

    def encoder(self, method: str, **options: Any) -> kvlens.Encoder:
        """A new encoder on the model."""
        return kvlens.Encoder(self.lm, method, batch_tokens=BATCH_TOKENS, **options)


Action = Callable[[Stage], bytes]


def encode(name: str) -> Action:
    """Embed by an encoder that all threads share."""
    return lambda stage: np.asarray(stage.encoders[name].encode(TEXTS)).tobytes()


def record(stage: Stage) -> bytes:
    """Every kind of state, through the bridge."""
    trace = kvlens.record(stage.lm, TEXTS, batch_tokens=BATCH_TOKENS)
    return _bytes_of(trace.tensors[kind] for kind in sorted(trace.tensors))


def sweep(stage: Stage) -> bytes:
    """Three routes, each on a part of the blocks."""
    first = tuple(TEXTS * 3)
    second = tuple(reversed(first))
    pairs = Pairs(first, second, np.arange(len(first), dtype=float))
    routes = [(1, 2), (3,), (0,)]
    result = kvlens.sweep(stage.lm, pairs, routes, batch_tokens=BATCH_TOKENS)
    cosines = [window.cosines for window in (*result.windows, *result.sets)]
    return np.array([result.plain_cosines, *cosines]).tobytes()


def attention_shift(stage: Stage) -> bytes:
    """Both passes through the bridge."""
    shift = kvlens.attention_shift(stage.lm, TEXTS, LAYERS, batch_tokens=BATCH_TOKENS)
    return _bytes_of(shift.arrays[name] for name in sorted(shift.arrays))


def check(stage: Stage) -> bytes:
    """The recording against raw transformers."""
    result = kvlens.check(stage.lm, TEXTS[:2])
    assert result.passed
    return repr(sorted(result.differences.items())).encode()


def logits(stage: Stage) -> bytes:
    """The model itself."""
    return stage.lm(_ids()).numpy().tobytes()


def held_reroute(stage: Stage) -> bytes:
    """A user's block, with several passes inside."""
    with kvlens.reroute(stage.lm, LAYERS):
        passes = [stage.lm(_ids()) for _ in range(3)]
    return _bytes_of(passes)


def bridge(stage: Stage) -> bytes:
    """The bridge, which the first thread builds, and the hook points that fire in it."""
    built = stage.lm.bridge
    assert built is stage.lm.bridge
    return repr((len(list(built.modules())), sorted(stage.lm.live_hooks))).encode()


def load(dtype: str) -> Action:
    """Another model from its folder, while the first one runs."""

    def action(stage: Stage) -> bytes:
        lm = kvlens.load(stage.saved, dtype=dtype)
        tensors = [tensor.float() for tensor in lm.hf.state_dict().values()]
        return _bytes_of([*tensors, lm(_ids()).float()])

    return action


def truncated(stage: Stage) -> bytes:
    """How many texts this thread's last call has cut: another number in each thread."""
    encoder = stage.encoders["mean"]
    place = int(hashlib.sha256(threading.current_thread().name.encode()).hexdigest(), 16) % 3
    long = ["long " * 300 + str(number) for number in range(1 + place)]
    encoder.encode([*TEXTS, *long])
    return str(encoder.truncated - len(long)).encode()


def fit_post(stage: Stage) -> bytes:
    """A post-processing of its own encoder, beside others' passes."""
    encoder = stage.encoder("mean")
    post = encoder.fit_post("center", [f"text {i} {'x' * (i % 7)}" for i in range(30)])
    return post.mean.tobytes()


def cache(stage: Stage) -> bytes:
    """Vectors that all threads keep in one folder."""
    encoder = stage.encoders["last_token"]
    return EmbeddingCache(stage.folder / "cache").encode(encoder, TEXTS).tobytes()


def embed_file(stage: Stage) -> bytes:
    """A file of vectors of its own, by a shared encoder."""
    folder = stage.folder / threading.current_thread().name
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "texts.txt"
    source.write_text("\n".join(TEXTS))
    target = folder / "vectors.npy"
    kvlens.embed_file(stage.encoders["echo"], source, target, overwrite=True, chunk=2)
    return np.load(target).tobytes()


def ids(stage: Stage) -> bytes:
    """The tokenizer, which is set anew for each call."""
    prompt = PROMPTS["raw"]
    return repr(tokenize(stage.lm.tokenizer, TEXTS * 20, prompt, 40)).encode()


ACTIONS: dict[str, Action] = {
    **{f"encode {name}": encode(name) for name in (*self_contained(), "control")},
    "record": record,
    "sweep": sweep,
    "attention_shift": attention_shift,
    "check": check,
    "lm(...)": logits,
    "with reroute": held_reroute,
    "bridge": bridge,
    "load float32": load("float32"),
    "load bfloat16": load("bfloat16"),
    "truncated": truncated,
    "fit_post": fit_post,
    "cache": cache,
    "embed_file": embed_file,
    "tokenize": ids,
}


@dataclass(frozen=True)
class Case:
    """Some actions at once.

    Attributes:
        number: of the case.
        architecture: of the model that they share.
        actions: by name, a thread each.
    """

    number: int
    architecture: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"case {self.number}, {self.architecture}: {' | '.join(self.actions)}"


def cases(seed: int, n: int) -> Iterator[Case]:
    """`n` cases: rounds of all pairs in an order of the seed, and of larger ones."""
    random = Random(seed)
    pairs = list(itertools.combinations_with_replacement(ACTIONS, 2))
    drawn: list[tuple[str, ...]] = []
    while len(drawn) < n:
        drawn += random.sample(pairs, len(pairs))
        for _ in range(len(pairs) // 10):
            drawn.append(tuple(random.choices(list(ACTIONS), k=random.choice(MANY))))
    for number, actions in enumerate(drawn[:n]):
        yield Case(number, random.choice(ARCHITECTURES), actions)


class World:
    """The models, and what every action returns alone."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.saved = folder / "saved"
        self.models: dict[str, kvlens.LanguageModel] = {}
        self.alone: dict[tuple[str, str], bytes] = {}
        lm = tiny("qwen2", seed=7)
        lm.hf.save_pretrained(self.saved)
        lm.tokenizer.save_pretrained(self.saved)

    def stage(self, architecture: str, name: str) -> Stage:
        """The architecture's model, by a wrapper of its own: its bridge is not built yet."""
        if architecture not in self.models:
            self.models[architecture] = tiny(architecture)
        lm = self.models[architecture]
        fresh = kvlens.LanguageModel(lm.hf, lm.tokenizer, lm.info, lm.anatomy)
        return Stage(fresh, self.saved, self.folder / name)

    def expected(self, architecture: str, action: str) -> bytes:
        """What the action returns in one thread."""
        key = (architecture, action)
        if key not in self.alone:
            stage = self.stage(architecture, f"alone-{architecture}-{len(self.alone)}")
            self.alone[key] = ACTIONS[action](stage)
        return self.alone[key]

    def problems(self, case: Case) -> list[str]:
        """Run a case; what its threads did wrong."""
        expected = [self.expected(case.architecture, action) for action in case.actions]
        stage = self.stage(case.architecture, f"case-{case.number}")
        problems: list[str] = []
        barrier = threading.Barrier(len(case.actions))

        def run(action: str, right: bytes) -> None:
            barrier.wait()
            for _ in range(ROUNDS):
                try:
                    if ACTIONS[action](stage) != right:
                        problems.append(f"{action}: another result")
                except Exception as error:
                    problems.append(f"{action}: {type(error).__name__}: {error}")

        assert stage.encoders  # made before the threads start
        threads = [
            threading.Thread(target=run, args=pair, name=f"thread-{number}", daemon=True)
            for number, pair in enumerate(zip(case.actions, expected, strict=True))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TOO_LONG)
        problems += [f"{thread.name}: waits for ever" for thread in threads if thread.is_alive()]
        return [*problems, *leftovers(stage.lm)]


def leftovers(lm: kvlens.LanguageModel) -> Iterator[str]:
    """Hooks that are still on the model or its bridge, and what loading has left in torch."""
    if torch.get_default_dtype() != torch.float32:
        torch.set_default_dtype(torch.float32)
        yield "torch's default dtype is left as another"
    modules = [*lm.hf.modules(), *(lm.bridge.original_model.modules() if lm.has_bridge else ())]
    if lm.has_bridge:
        modules += [point for point in lm.bridge.hook_dict.values() if point.fwd_hooks]
    for module in modules:
        hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        if any("kvlens" in type(hook).__module__ for hook in hooks) or "forward" in vars(module):
            yield f"a hook is left on {type(module).__name__}"


def failures(seed: int, n: int, folder: Path, counts: Counter[str]) -> Iterator[str]:
    """Run `n` cases, count their actions, and yield a line for each case that went wrong."""
    world = World(folder)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        for case in cases(seed, n):
            problems = world.problems(case)
            counts[f"{len(case.actions)} threads"] += 1
            counts.update(case.actions)
            if problems:
                yield f"seed {seed}, {case}: {'; '.join(dict.fromkeys(problems))}"
    finally:
        sys.setswitchinterval(interval)


def campaign(seed: int, n: int, folder: Path) -> Counter[str]:
    """Run `n` cases.

    Args:
        seed: draws their order, their models and the larger ones.
        n: how many; all pairs are 325.
        folder: an empty one, for files.

    Returns:
        How often each action ran beside others, and with how many threads.

    Raises:
        AssertionError: with the seed and the case, for another result than alone, an exception, a
            thread that waits for ever, and a hook that is left.
    """
    counts: Counter[str] = Counter()
    for failure in failures(seed, n, folder, counts):
        raise AssertionError(failure)
    return counts


def _ids() -> torch.Tensor:
    return torch.arange(3, 3 + 24).reshape(2, 12)


def _bytes_of(tensors: Any) -> bytes:
    return b"".join(np.asarray(tensor).tobytes() for tensor in tensors)


def main(arguments: Sequence[str]) -> None:
    """``threads.py SEED N``: count the failures instead of stopping at the first."""
    import tempfile

    seed, n = (int(argument) for argument in arguments)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        lines = list(failures(seed, n, Path(folder), counts))
    print(*lines, sep="\n")
    print(f"{len(lines)} of {n} cases failed", dict(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
