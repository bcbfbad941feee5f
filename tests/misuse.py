"""Misuse: each parameter of each public function with values that it cannot have.

``PYTHONPATH=tests python -m misuse`` prints, as JSON, how each call ended. It runs in a process of
its own, where no check of axes stands before the functions.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from zoo import tiny

import kvlens
from kvlens.dimension.draws import Draws
from kvlens.embedding.cache import EmbeddingCache
from kvlens.texts.pairs import Pairs

OLD = Path(__file__).parent / "data" / "v0.1.0"
TEXTS = [f"text {i} of a few words" for i in range(60)]

NAN = float("nan")
INF = float("inf")
HUGE = 10**400
THING = object()

# Values that are none of what the name says; None is added where a parameter needs a value.
NO_MODEL = (None, 5, "smollm2-135m", THING)
NO_VALUE = (None, 5, "a", THING, ["a"])
NO_PATH = (None, 5, b"path", ["a"], THING)
NO_TEXT = (5, 2.5, True, b"bytes", ["a"], {"a": 1}, THING)
NO_INPUTS = (None, 5, b"bytes", {"a": 1}, {"a"}, [1], ["a", None], [b"a"])
NO_INPUTS = (*NO_INPUTS, pd.DataFrame({"text": ["a"]}), pd.Series([1.5]), np.zeros(3))
NO_TEXTS = (*NO_INPUTS, "a text", [])
NO_NAMES = (None, 5, "kv", b"kv", {"k": 1}, {"k"}, [5], [None], THING)
NO_WHOLE = ("12", 2.5, True, NAN, np.float32(3), [3], THING, 10.0)
NO_COUNT = (*NO_WHOLE, 0, -1)
NO_REAL = ("1", True, NAN, INF, [1.0], HUGE, THING)
NO_FLAG = (1, 0, "yes", [True], THING)
NO_LAYERS = (5, 2.5, True, ["7"], [7.0], [True], [None], {1}, {1: 1}, b"7", THING, [[1]])
NO_BIAS = ("1", NAN, INF, True, ["1"], [None], {1.0}, HUGE, THING)
NO_PROMPT = (5, 2.5, True, b"raw", ["raw"], THING)
NO_FUNCTION = (5, "print", [print])
NO_WIDTH = (None, "5", True, NAN, INF, 0, -1, [5])
NO_HEAD = ("0", 2.5, True, -1)
NO_AXES = (5, "a")

LIMITS = {"max_length": NO_COUNT, "batch_tokens": NO_COUNT, "strict": NO_FLAG}
CONTROL = {
    "heads": (5, "0", [-1], [1.5], [True], {3: [0]}, {"x": [0]}, {1: 0}, {1}, THING),
    "queries": (None, "none", *NO_TEXT),
    "source": (None, "first", 2.5, True, [1], THING),
    "key": (None, "none", *NO_TEXT[:-1], {3: "own"}, {1: "none"}, {1: 5}, {1: [5]}),
    "value": (None, "none", *NO_TEXT[:-1], {3: "own"}, {1: "none"}, {1: 5}, {1: [5]}),
    "seed": (None, *NO_WHOLE, -1),
    "calibration": (5, b"a", ["a"], THING),
    "columns": (None, *NO_COUNT, 2, 65),  # 2: of the final token
}
ROUTE = {"layers": (None, *NO_LAYERS), "bias": NO_BIAS, "position": NO_TEXT}


@dataclass
class Case:
    """A public function and what its parameters cannot be.

    Attributes:
        title: its name.
        call: itself.
        good: arguments with which it works.
        wrong: parameter -> values.
    """

    title: str
    call: Callable[..., Any]
    good: dict[str, Any]
    wrong: dict[str, tuple[Any, ...]]


def case(title: str, call: Callable[..., Any], good: dict[str, Any], **wrong: Any) -> Case:
    return Case(title, call, good, wrong)


@dataclass
class World:
    """What the functions work with."""

    folder: Path

    def __post_init__(self) -> None:
        self.lm = tiny("llama")
        self.trace = kvlens.record(self.lm, TEXTS[:20], keep=("hidden", "k", "k_pre", "v"))
        self.profile = kvlens.IDProfile.load(OLD / "profile.json")
        self.sweep = kvlens.Sweep.load(OLD / "sweep.json")
        self.shift = kvlens.AttentionShift.load(OLD / "shift.safetensors")
        self.patterns = kvlens.AttentionPatterns.load(OLD / "patterns.safetensors")
        self.encoder = kvlens.Encoder(self.lm, "mean")
        self.pairs = Pairs(tuple(TEXTS[:20]), tuple(TEXTS[20:40]), np.arange(20.0))
        self.readouts = kvlens.readout_sweep(self.lm, self.pairs)
        self.file = self.folder / "texts.txt"
        self.file.write_text("\n".join(TEXTS))


def of_texts(world: World) -> Iterator[Case]:
    yield case(
        "read_texts",
        kvlens.read_texts,
        {"path": world.file},
        path=NO_PATH,
        column=NO_TEXT,
        limit=NO_COUNT,
        skip_bad=NO_FLAG,
        ids=(None, 5, 2.5, ["id"]),
        empty=NO_FLAG,
    )
    yield case("calibration_texts", kvlens.calibration_texts, {}, n=(None, *NO_COUNT, 10**9))
    yield case("news_texts", kvlens.news_texts, {}, n=(None, *NO_COUNT, 10**9))
    yield case(
        "Texts",
        kvlens.Texts,
        {"items": ("a",), "source": "x"},
        items=(None, 5, "abc", [5], {"a"}),
        source=(None, *NO_TEXT),
        ids=(5, "a", [5], {"a"}),
        skipped=(None, "1", 2.5, True, -1),
    )
    fields = dict.fromkeys(("name", "prefix", "suffix", "source"), (None, *NO_TEXT))
    yield case("Prompt", kvlens.Prompt, {"name": "a"}, **fields)


def of_models(world: World) -> Iterator[Case]:
    yield case(
        "load",
        kvlens.load,
        {"name": "smollm2-135m"},
        name=(None, *NO_PATH),
        device=NO_TEXT,
        dtype=NO_TEXT,
        revision=NO_TEXT,
        trust_remote_code=NO_FLAG,
        device_map=(5, "a", b"auto", ["cpu"], {}, {1: "cpu"}, THING),
        quantize=(*NO_TEXT, "int3"),
        model=(5, "a", world.lm),
        tokenizer=(5, "a", world.lm),
    )
    yield case(
        "record",
        kvlens.record,
        {"lm": world.lm, "texts": TEXTS[:3]},
        lm=NO_MODEL,
        texts=NO_TEXTS,
        prompt=(None, *NO_PROMPT),
        points=(None, *NO_TEXT),
        keep=NO_NAMES,
        layers=NO_LAYERS,
        patterns=NO_FLAG,
        tokens=(*NO_NAMES, ["second"], []),
        padding_side=(None, "up", *NO_TEXT),
        progress=NO_FUNCTION,
        **LIMITS,
    )
    yield case(
        "record_shards",
        kvlens.record_shards,
        {"lm": world.lm, "texts": TEXTS[:3], "target": world.folder / "shards"},
        lm=NO_MODEL,
        texts=NO_TEXTS,
        target=NO_PATH,
        prompt=(None, *NO_PROMPT),
        points=(None, *NO_TEXT),
        keep=NO_NAMES,
        layers=NO_LAYERS,
        shard=(None, *NO_COUNT),
        resume=(None, *NO_FLAG),
        overwrite=(None, *NO_FLAG),
        part=(5, b"a", ["a"]),
        progress=NO_FUNCTION,
        tokens=(*NO_NAMES, ["second"], []),
        **LIMITS,
    )
    yield case(
        "chat",
        kvlens.chat,
        {"lm": world.lm},
        lm=NO_MODEL,
        prompt=(None, *NO_PROMPT),
        system=NO_TEXT,
    )
    yield case(
        "Trace.states",
        world.trace.states,
        {"layer": 0},
        layer=(None, "0", 0.5, True, [0]),
        kind=(None, *NO_TEXT, "x"),
    )
    yield case(
        "check",
        kvlens.check,
        {"lm": world.lm},
        lm=NO_MODEL,
        texts=NO_TEXTS,
        prompt=(None, *NO_PROMPT),
        tolerance=(*NO_REAL, -1),
    )


def reroute(*args: Any, **kwargs: Any) -> None:
    with kvlens.reroute(*args, **kwargs):
        pass


def of_layers(world: World) -> Iterator[Case]:
    yield case(
        "estimate",
        kvlens.estimate,
        {"trace": world.trace},
        trace=NO_VALUE,
        states=(None, *NO_TEXT),
        estimators=NO_NAMES,
        progress=NO_FUNCTION,
        draws=(None, *NO_WHOLE, -1, HUGE),
        seed=(None, *NO_WHOLE, -1, HUGE),
        device=(None, *NO_TEXT, "nope"),
    )
    yield case(
        "estimate_points",
        kvlens.estimate_points,
        {"X": np.random.default_rng(0).normal(size=(60, 3))},
        X=(None, "points", [["a"]], THING, np.array([[1j]])),
        estimators=NO_NAMES,
        device=(None, *NO_TEXT, "nope"),
        layer=(None, *NO_WHOLE, -1),
    )
    wrong = (None, 5, "x")
    yield case("IDProfile.values", world.profile.values, {"estimator": "mle"}, estimator=wrong)
    for method in ("decimated", "order"):
        call = getattr(world.profile, method)
        yield case(f"IDProfile.{method}", call, {"estimator": "mle"}, estimator=wrong)
    drawn = world.profile.drawn_values
    yield case("IDProfile.drawn_values", drawn, {"estimator": "mle"}, estimator=wrong)
    yield case(
        "select",
        kvlens.select,
        {"profile": world.profile},
        profile=NO_VALUE,
        rule=(None, *NO_TEXT),
        window=(None, *NO_REAL, -0.1, 1.0),
        skip_early=(None, *NO_REAL, -0.1, 1.0),
        estimator=(None, *NO_TEXT),
        layers=NO_LAYERS,
        z=(None, *NO_REAL, 0),
        bias=(None, *NO_BIAS),
        position=(None, "up", *NO_TEXT),
        pooling=(None, "max", *NO_TEXT),
        query=NO_PROMPT,
        document=NO_PROMPT,
        queries=(None, "none", *NO_TEXT),
        readout=("last", True, 1.5, 99, b"a", THING),
        final_norm=(None, *NO_FLAG),
    )
    good = {"lm": world.lm, "layers": (1,)}
    yield case("reroute", reroute, good, lm=NO_MODEL, **ROUTE, **CONTROL)
    states = (None, 5, b"a", ["a"], THING)
    yield case("calibration", kvlens.calibration, {"states": world.trace}, states=states)
    yield case("static_prefix", kvlens.static_prefix, {"trace": world.trace}, trace=NO_VALUE)


def of_encoders(world: World) -> Iterator[Case]:
    yield case(
        "Encoder",
        kvlens.Encoder,
        {"lm": world.lm, "method": "kv_embedding", "layers": (1, 2)},
        lm=NO_MODEL,
        method=(None, *NO_TEXT),
        layers=NO_LAYERS,
        post=NO_TEXT,
        force=NO_FLAG,
        chat=NO_FLAG,
        system=NO_TEXT,
        pooling=(None, *NO_TEXT),
        query=(None, *NO_PROMPT),
        document=(None, *NO_PROMPT),
        bias=(None, *NO_BIAS),
        position=(None, *NO_TEXT),
        **LIMITS,
    )
    shares = (None, 5, "ab", ["a", "b"], [0.5], [0.9, 0.1], [NAN, NAN], [HUGE, HUGE])
    blocks = {"start": NO_WHOLE, "exit": NO_WHOLE, "output": NO_WHOLE}
    methods = {"token_prepending": blocks, "aligned_wva": {"depth": shares}}
    methods["value_aggregation"] = {"depth": shares}
    for method, settings in methods.items():
        good = {"lm": world.lm, "method": method}
        yield case(f"Encoder {method}", kvlens.Encoder, good, **settings)
    for name in ("encode", "encode_query", "encode_document"):
        yield case(
            f"Encoder.{name}",
            getattr(world.encoder, name),
            {"inputs": TEXTS[:3]},
            inputs=NO_INPUTS,
            prompt_name=NO_TEXT,
            prompt=NO_PROMPT,
            batch_size=NO_COUNT,
            show_progress_bar=NO_FLAG,
            progress=NO_FUNCTION,
            convert_to_numpy=NO_FLAG,
            convert_to_tensor=NO_FLAG,
            normalize_embeddings=NO_FLAG,
            truncate_dim=NO_COUNT,
        )
    yield case(
        "Encoder.fit_post",
        world.encoder.fit_post,
        {"kind": "whiten", "texts": TEXTS[:9]},
        kind=(None, *NO_TEXT),
        texts=NO_TEXTS[1:],  # none are passages of Wikipedia
        dimension=NO_COUNT,
        shrinkage=(*NO_REAL, -1, 2),
    )
    good = {"encoder": world.encoder}
    yield case("as_sentence_transformer", kvlens.as_sentence_transformer, good, encoder=NO_VALUE)
    yield case(
        "embed_file",
        kvlens.embed_file,
        {"encoder": world.encoder, "source": world.file, "target": world.folder / "out.npy"},
        encoder=NO_VALUE,
        source=NO_PATH,
        target=NO_PATH,
        column=NO_TEXT,
        id_column=NO_TEXT,
        kind=(None, "passage", *NO_TEXT),
        progress=NO_FUNCTION,
        normalize=NO_FLAG,
        truncate_dim=NO_COUNT,
        skip_bad=NO_FLAG,
        resume=NO_FLAG,
        overwrite=NO_FLAG,
        chunk=(None, *NO_COUNT),
        window=(None, *NO_COUNT),
    )
    yield case("EmbeddingCache", EmbeddingCache, {}, folder=(5, b"a", ["a"]))


def of_analysis(world: World) -> Iterator[Case]:
    yield case(
        "attention_shift",
        kvlens.attention_shift,
        {"lm": world.lm, "texts": TEXTS[:3], "layers": (1,)},
        lm=NO_MODEL,
        texts=NO_TEXTS,
        prompt=NO_PROMPT,
        bins=(None, *NO_COUNT),
        span=(None, "words", *NO_TEXT),
        force=NO_FLAG,
        progress=NO_FUNCTION,
        **ROUTE,
        **LIMITS,
    )
    yield case("AttentionShift.ends", world.shift.ends, {}, kind=(None, *NO_TEXT, "x"))
    yield case(
        "attention_patterns",
        kvlens.attention_patterns,
        {"lm": world.lm, "text": TEXTS[0], "layers": (1,)},
        lm=NO_MODEL,
        text=(None, *NO_TEXT),
        prompt=NO_PROMPT,
        force=NO_FLAG,
        **ROUTE,
        **LIMITS,
    )
    yield case(
        "kv_lens",
        kvlens.kv_lens,
        {"trace": world.trace},
        trace=NO_VALUE,
        embeddings=("a", [["a"]], THING, 5),
        seed=(None, *NO_WHOLE, -1),
        probe=NO_NAMES,
    )
    yield case(
        "pair_parts",
        kvlens.pair_parts,
        {"encoder": world.encoder, "first": "a", "second": "b"},
        encoder=NO_VALUE,
        first=(None, *NO_TEXT),
        second=(None, *NO_TEXT),
        kinds=(None, 5, "query", ["query"], ["query", "text"], ["query", 5]),
    )
    yield case(
        "word_lens",
        kvlens.word_lens,
        {"lm": world.lm, "texts": TEXTS[:3]},
        lm=NO_MODEL,
        texts=NO_TEXTS,
        embeddings=("a", [["a"]], THING, 5),
        prompt=(None, *NO_PROMPT),
        normed=(None, *NO_FLAG),
        top=(None, *NO_COUNT, 301),
        shown=(None, *NO_WHOLE, -1),
        heads=(None, *NO_FLAG),
        progress=NO_FUNCTION,
        **LIMITS,
    )
    shares = (None, 5, "0.5", [], ["0.5"], [0.0], [1.0], [NAN], [True], [HUGE])
    yield case(
        "low_rank",
        kvlens.low_rank,
        {"lm": world.lm, "texts": TEXTS[:3]},
        lm=NO_MODEL,
        texts=NO_TEXTS,
        shares=shares,
        threshold=(None, *NO_REAL, -0.1, 1.1),
        prompt=(None, *NO_PROMPT),
        pooling=(None, *NO_TEXT),
        progress=NO_FUNCTION,
        **LIMITS,
    )
    yield case(
        "probe_tokens",
        kvlens.probe_tokens,
        {"lm": world.lm, "texts": TEXTS[:3]},
        lm=NO_MODEL,
        texts=NO_TEXTS,
        layers=NO_LAYERS,
        columns=(None, *NO_COUNT, 65),
        prompt=(None, *NO_PROMPT),
        force=NO_FLAG,
        progress=NO_FUNCTION,
        **LIMITS,
    )


def of_studies(world: World) -> Iterator[Case]:
    yield case(
        "sweep",
        kvlens.sweep,
        {"lm": world.lm, "pairs": world.pairs, "layer_sets": [(1,)]},
        lm=NO_MODEL,
        pairs=NO_VALUE,
        layer_sets=(None, 5, "1", [5], [["1"]], [[1.0]], {1}, [None]),
        biases=(None, 5, "1", ["1"], [True], [NAN], [None], [HUGE]),
        prompt=(None, *NO_PROMPT),
        pooling=(None, *NO_TEXT),
        position=(None, *NO_TEXT),
        data=(None, *NO_TEXT),
        progress=NO_FUNCTION,
        known=(5, "a", THING),
        **LIMITS,
    )
    yield case(
        "effects",
        kvlens.effects,
        {"lm": world.lm, "texts": TEXTS[:3], "layers": (1,)},
        lm=NO_MODEL,
        texts=NO_TEXTS,
        layers=(None, *NO_LAYERS),
        prompt=(None, *NO_PROMPT),
        pooling=(None, *NO_TEXT),
        progress=NO_FUNCTION,
        force=NO_FLAG,
        calibration=(5, b"a", ["a"], THING),
        **LIMITS,
    )
    yield case(
        "choose",
        kvlens.choose,
        {"lm": world.lm, "texts": kvlens.Texts(tuple(TEXTS), "here"), "posts": ()},
        lm=NO_MODEL,
        texts=(5, "a", TEXTS, THING),
        pairs=(5, "a", THING),
        profile=(5, "a", THING),
        widths=(5, "a", ["a"], [0], [1.5]),
        biases=(None, 1.0, "a", ["a"], [None], [float("nan")]),
        methods=(None, 5, "a", [5]),
        finalists=(None, *NO_COUNT),
        posts=(None, 5, "zscore", ["none such"], [5]),
        data=(None, *NO_TEXT),
        bars=NO_FUNCTION,
        **LIMITS,
    )
    yield case(
        "readout_sweep",
        kvlens.readout_sweep,
        {"lm": world.lm, "pairs": world.pairs},
        lm=NO_MODEL,
        pairs=NO_VALUE,
        method=(None, *NO_TEXT),
        layers=NO_LAYERS,
        data=(None, *NO_TEXT),
        progress=NO_FUNCTION,
        chat=NO_FLAG,
        system=NO_TEXT,
        **LIMITS,
    )
    yield case(
        "ReadoutSweep.curve",
        world.readouts.curve,
        {},
        final_norm=(None, *NO_FLAG),
    )
    yield case(
        "Sweep.find",
        world.sweep.find,
        {"layers": (1,), "bias": 1.0},
        layers=(None, *NO_LAYERS),
        bias=(None, *NO_BIAS),
    )
    yield case(
        "Sweep.windows_of",
        world.sweep.windows_of,
        {"width": 1, "bias": 1.0},
        width=(None, *NO_WHOLE),
        bias=(None, *NO_BIAS),
    )
    yield case(
        "study",
        kvlens.study,
        {"sweep": world.sweep, "profiles": [world.profile]},
        sweep=NO_VALUE,
        profiles=(None, 5, "a", [5], [None], {1}),
        estimator=(None, *NO_TEXT),
        others=(None, 5, "a", [5], ["ab"], [("a", ["1"])], [(1, (1,))]),
    )


def of_evaluation(world: World) -> Iterator[Case]:
    tasks = kvlens.find_tasks(["STSBenchmark"])
    yield case(
        "evaluate",
        kvlens.evaluate,
        {"lm": world.lm, "tasks": tasks, "folder": world.folder / "run", "methods": ["mean"]},
        lm=NO_MODEL,
        tasks=(None, 5, "STSBenchmark", ["STSBenchmark"], [None], {1: 1}),
        folder=NO_PATH,
        methods=NO_NAMES,
        layers=NO_LAYERS,
        posts=(None, 5, "center", ["pca"], [5]),
        limit=NO_COUNT,
        instructions=NO_FLAG,
        chat=NO_FLAG,
        system=NO_TEXT,
        force=NO_FLAG,
        csls=NO_FLAG,
        reference=NO_TEXT,
        cache=(5, "a", THING),
        progress=NO_FUNCTION,
        **LIMITS,
    )
    yield case(
        "find_tasks",
        kvlens.find_tasks,
        {"names": ["STSBenchmark"]},
        names=(None, 5, "STSBenchmark", [5], [None], {"a"}),
        data_dir=(5, b"a", ["a"]),
        split=NO_TEXT,
    )
    yield case(
        "long_articles",
        kvlens.long_articles,
        {"tokenizer": world.lm.tokenizer},
        tokenizer=(None, 5, "a"),
        lengths=(None, 5, "256", ["256"], [2.5], [0], [True], {256}),
        corpus=(5, "a", ["a"]),
    )
    yield case(
        "mteb_encoder",
        kvlens.mteb_encoder,
        {"encoder": world.encoder},
        encoder=NO_VALUE,
        cache=(5, "a", THING),
        facts=(5, "a", ["a"]),
        progress=NO_FUNCTION,
        beside=(5, "a", [5], [None], THING),
        about=(5, "a", ["a"], {"name": "a/b"}, {"languages": ["english"]}, {"license": 5}),
    )


def decimated(profile: kvlens.IDProfile) -> kvlens.IDProfile:
    """The profile, as if half of its texts had the same ID."""
    lines = {name: (tuple(profile.values(name)),) for name in profile.estimates}
    half = Draws(n=profile.texts.n // 2, seed=0, values=lines)
    return profile.model_copy(update={"decimation": (half,)})


def of_plots(world: World) -> Iterator[Case]:
    yield case(
        "plot_decimation",
        kvlens.plot_decimation,
        {"profile": decimated(world.profile)},
        profile=NO_VALUE,
        estimator=NO_TEXT,
        ax=NO_AXES,
        width=NO_WIDTH,
    )
    yield case(
        "plot_profile",
        kvlens.plot_profile,
        {"profiles": world.profile},
        profiles=(None, 5, "a", [5], []),
        layer_sets=(5, "a", [5]),
        relative_depth=NO_FLAG,
        ax=NO_AXES,
        width=NO_WIDTH,
    )
    yield case(
        "plot_beta",
        kvlens.plot_beta,
        {"shift": world.shift},
        shift=NO_VALUE,
        kind=(None, *NO_TEXT),
        head=NO_HEAD,
        ax=NO_AXES,
        width=NO_WIDTH,
    )
    good = {"shift": world.shift}
    yield case("plot_ends", kvlens.plot_ends, good, shift=NO_VALUE, ax=NO_AXES, width=NO_WIDTH)
    lens = kvlens.word_lens(world.lm, TEXTS[:3], heads=False)
    yield case(
        "plot_own_words",
        kvlens.plot_own_words,
        {"lens": lens},
        lens=NO_VALUE,
        axes=NO_AXES,
        width=NO_WIDTH,
    )
    yield case(
        "plot_words",
        kvlens.plot_words,
        {"lens": lens},
        lens=NO_VALUE,
        text=(None, *NO_HEAD, 2),
        centred=NO_FLAG,
        axes=NO_AXES,
        width=NO_WIDTH,
    )
    cut = kvlens.low_rank(world.lm, TEXTS[:3], shares=(0.5,))
    yield case(
        "plot_low_rank",
        kvlens.plot_low_rank,
        {"low_rank": cut},
        low_rank=NO_VALUE,
        axes=NO_AXES,
        width=NO_WIDTH,
    )
    parts = kvlens.pair_parts(world.encoder, "a", "b")
    yield case(
        "plot_pair_parts",
        kvlens.plot_pair_parts,
        {"parts": parts},
        parts=NO_VALUE,
        less=(5, "a", THING),
        axes=NO_AXES,
        width=NO_WIDTH,
    )
    found = kvlens.effects(world.lm, TEXTS[:3], (1,))
    yield case(
        "plot_effects",
        kvlens.plot_effects,
        {"effects": found},
        effects=NO_VALUE,
        axes=NO_AXES,
        width=NO_WIDTH,
    )
    texts = kvlens.Texts(tuple(TEXTS), "here")
    decided = kvlens.choose(world.lm, texts, biases=(1.0,), posts=(), finalists=2)
    yield case(
        "plot_decision",
        kvlens.plot_decision,
        {"decision": decided},
        decision=NO_VALUE,
        ax=NO_AXES,
        width=NO_WIDTH,
    )
    yield case(
        "plot_patterns",
        kvlens.plot_patterns,
        {"patterns": world.patterns, "layer": world.patterns.layers[0]},
        patterns=NO_VALUE,
        layer=(None, "1", 2.5, True, -1),
        head=NO_HEAD,
        kind=(None, *NO_TEXT),
        axes=(5, "a", (1,)),
        width=NO_WIDTH,
    )
    yield case(
        "attention_widget",
        kvlens.attention_widget,
        {"patterns": world.patterns},
        patterns=(*NO_VALUE, [], [5]),
        layer=("1", 2.5, True, -1),
        head=NO_HEAD,
        kind=(None, *NO_TEXT),
    )


def of_files(world: World) -> Iterator[Case]:
    good = {"path": world.file}
    for name in ("load_vectors", "open", "verify"):
        yield case(name, getattr(kvlens, name), good, path=NO_PATH)
    for name in SAVED:
        yield case(f"{name}.load", getattr(kvlens, name).load, good, path=NO_PATH)
    yield case("IDProfile.save", world.profile.save, good, path=NO_PATH)
    yield case("Trace.save", world.trace.save, good, path=NO_PATH)
    yield case(
        "report",
        kvlens.report,
        {"folder": world.folder},
        folder=NO_PATH,
        output=(5, b"a", ["a"]),
        lm=(5, "smollm2-135m"),
        texts=(5, "a", ["a"]),
        n=(None, *NO_COUNT),
        bars=(None, *NO_FUNCTION),
        commands=(None, 5, "a"),
    )


SAVED = (
    "AttentionPatterns",
    "AttentionShift",
    "CheckResult",
    "Decision",
    "Effects",
    "Geometry",
    "IDProfile",
    "KVLens",
    "LayerSet",
    "LayerStudy",
    "LowRank",
    "PairParts",
    "Post",
    "ProbeTokens",
    "ReadoutSweep",
    "SavedEncoder",
    "Scores",
    "StaticPrefix",
    "Sweep",
    "Trace",
    "WordLens",
)
ROOMS = (
    of_texts,
    of_models,
    of_layers,
    of_encoders,
    of_analysis,
    of_studies,
    of_evaluation,
    of_plots,
    of_files,
)


def outcome(case: Case, name: str, value: Any) -> str:
    """How a call with one wrong argument ended: empty, or what is wrong with that."""
    try:
        with contextlib.redirect_stdout(None):
            case.call(**{**case.good, name: value})
    except kvlens.InputError as error:
        message = str(error)
        if f"`{name}`" not in message:
            return f"no `{name}` in: {message[:200]}"
        return "" if len(message) < 300 else f"{len(message)} characters"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "it was taken"


def outcomes(world: World) -> Iterator[tuple[str, str, str, str]]:
    """(function, parameter, value, problem) of every call."""
    for room in ROOMS:
        for each in room(world):
            for name, values in each.wrong.items():
                for value in values:
                    words = " ".join(str(value).split())[:40]
                    shown = f"{type(value).__name__} {words}"
                    yield each.title, name, shown, outcome(each, name, value)


def plain_numbers(world: World) -> dict[str, Any]:
    """What is recorded of numbers of numpy; equal to what is recorded of Python's own."""
    number, real, flag = np.int64, np.float32, np.bool_
    layers = np.array([1, 2])
    trace = kvlens.record(
        world.lm, np.array(TEXTS[:2]), layers=layers, strict=flag(False), max_length=number(64)
    )
    encoder = kvlens.Encoder(
        world.lm, "kv_embedding", layers, bias=real(0.5), batch_tokens=number(64)
    )
    vectors = encoder.encode(pd.Series(TEXTS[:3]), truncate_dim=number(5), batch_size=np.int32(2))
    chosen = kvlens.select(world.profile, "explicit", layers=layers, bias=np.full(2, real(0.5)))
    shift = kvlens.attention_shift(world.lm, TEXTS[:2], layers, bias=real(2), bins=number(3))
    return {
        "trace": [trace.layers, trace.texts.n],
        "encoder": encoder.method.settings(),
        "vectors": vectors.shape,
        "layer set": [chosen.layers, chosen.bias],
        "shift": [shift.layers, shift.bias, shift.bins],
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        world = World(Path(folder))
        print(json.dumps([list(outcomes(world)), plain_numbers(world)]))


if __name__ == "__main__":
    main()
