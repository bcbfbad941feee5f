"""Damaged files of kvlens' own formats: every reader holds the law of `damage`.

``PYTHONPATH=tests python -m torture.own_files SEED N [FORMAT]`` tells all that breaks, and why.
"""

from __future__ import annotations

import functools
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torture.damage import Format, campaign_of, survey
from zoo import tiny

import kvlens
from kvlens.layers.route import Route
from kvlens.reporting.run_folder import Run
from kvlens.store.artifact import Record
from kvlens.store.facts import PICTURES
from kvlens.tracing.kinds import KEEP

UNPRINTABLE = set(map(chr, range(32))) - {"\n"} | set(map(chr, range(127, 160)))
OLD = Path(__file__).parents[1] / "data" / "v0.1.0"


def _copy(file: str, folder: Path) -> Path:
    return Path(shutil.copy(OLD / file, folder))


def _save_again(value: Any, scratch: Path) -> None:
    """Saved and loaded, the value is equal, and so is what it saves again."""
    first = value.save(scratch / "first.x")
    again = type(value).load(first)
    second = again.save(scratch / "second.x")
    if isinstance(value, Record) and "NaN" not in first.read_text():
        assert again == value
    assert first.read_bytes() == second.read_bytes()


def _show(value: Any) -> None:
    """All that a terminal and a notebook show of a value, but for its picture."""
    for text in (repr(value), str(value)):
        text.encode()
        assert not set(text) & UNPRINTABLE, "an escape code on the terminal"
    with patch.dict(PICTURES, clear=True):
        for show in ("_repr_html_", "_repr_markdown_"):
            getattr(value, show, str)().encode()


def use_trace(trace: kvlens.Trace, scratch: Path) -> None:
    _show(trace)
    assert len(trace.n_tokens) == trace.texts.n
    for layer in trace.layers:
        for kind in set(KEEP) & set(trace.tensors):
            states = trace.states(layer, kind)
            assert states.dtype == np.float32
            assert np.isfinite(states).all()
    for name in trace.tensors:
        assert getattr(trace, name) is trace.tensors[name]
    _save_again(trace, scratch)


def make_shards(folder: Path) -> Path:
    texts = ["a cat", "a text", "a third"]
    place = folder / "trace"
    kvlens.record_shards(tiny("llama"), texts, place, shard=2)
    return place


def use_shards(trace: kvlens.Trace, scratch: Path) -> None:
    _show(trace)
    for name, form in trace.tensors.forms.items():
        assert trace.tensors[name].shape == form.shape
    for layer in trace.layers:
        for kind in KEEP:
            if trace.holds(kind):
                assert np.isfinite(trace.states(layer, kind)).all()


def use_post(post: kvlens.Post, scratch: Path) -> None:
    _show(post)
    assert post.kind in ("center", "zscore", "whiten")
    for array in (post.mean, post.matrix):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert post(torch.ones(2, len(post.mean))).shape == (2, post.matrix.shape[1])
    post.facts()
    _save_again(post, scratch)


def _use_route(result: Any) -> None:
    assert len(result.bias) == len(result.layers)
    route = Route.of(result.model, result.layers, result.bias, result.position)
    assert (route.layers, route.bias) == (result.layers, result.bias)


def use_shift(shift: kvlens.AttentionShift, scratch: Path) -> None:
    _show(shift)
    _use_route(shift)
    for kind in ("local", "propagated"):
        assert shift.ends(kind).mean.shape == (2, len(shift.layers))
        beta = shift.arrays[f"beta.{kind}.mean"]
        assert beta.shape == (len(shift.layers), shift.model.n_heads, shift.bins)
    _save_again(shift, scratch)


def use_patterns(patterns: kvlens.AttentionPatterns, scratch: Path) -> None:
    _show(patterns)
    _use_route(patterns)
    first, last = patterns.text_span
    T = len(patterns.tokens)
    assert 0 <= first <= last <= T
    of_heads = (len(patterns.layers), patterns.model.n_heads)
    for name, shape in {"before": (T, T), "after": (T, 1 + T), "beta": (T,)}.items():
        assert patterns.arrays[name].shape == of_heads + shape
        assert np.isfinite(patterns.arrays[name]).all()
    _save_again(patterns, scratch)


def use_profile(profile: kvlens.IDProfile, scratch: Path) -> None:
    _show(profile)
    assert profile.layers[-1] < profile.model.n_layers
    assert isinstance(profile.warnings, list)
    for estimator in profile.estimates:
        assert np.isfinite(profile.values(estimator)).all()
        kvlens.select(profile, "paper", estimator=estimator)
    for scale in profile.scales:
        assert len(scale.neighbours) == len(scale.values) == len(scale.stderrs)
    _save_again(profile, scratch)


def use_layer_set(layer_set: kvlens.LayerSet, scratch: Path) -> None:
    _show(layer_set)
    Route.of(layer_set.model, layer_set)
    assert max(np.abs(layer_set.bias).flat, default=0) <= 1e4
    _save_again(layer_set, scratch)


def use_sweep(sweep: kvlens.Sweep, scratch: Path) -> None:
    _show(sweep)
    for window in sweep.measured:
        assert sweep.find(window.layers, window.bias).layers == window.layers
        assert len(window.cosines) == len(sweep.human) == len(sweep.plain_cosines)
        Route.of(sweep.model, window.layers, window.bias, sweep.position)
    _save_again(sweep, scratch)


def use_study(study: kvlens.LayerStudy, scratch: Path) -> None:
    _show(study)
    for outcome in study.outcomes:
        Route.of(study.model, outcome.layers, outcome.bias)
    _save_again(study, scratch)


def use_scores(scores: kvlens.Scores, scratch: Path) -> None:
    _show(scores)
    assert len(scores.frame()) == len(scores.scores)
    scores.csv()
    scores.markdown()
    _save_again(scores, scratch)


def use_lens(lens: kvlens.KVLens, scratch: Path) -> None:
    _show(lens)
    for spectrum in lens.spectra:
        assert spectrum.layer < lens.model.n_layers
        assert spectrum in lens.spectra_of(spectrum.kind, spectrum.head)
    for similarity in lens.similarities:
        assert similarity.layer < lens.model.n_layers
    _save_again(lens, scratch)


def use_geometry(geometry: kvlens.Geometry, scratch: Path) -> None:
    _show(geometry)
    n = len(geometry.sentences)
    assert len(geometry.groups) == n
    for row in geometry.methods:
        assert np.array(geometry.cosines[row.label]).shape == (n, n)
    _save_again(geometry, scratch)


def use_check(result: kvlens.CheckResult, scratch: Path) -> None:
    _show(result)
    assert result.passed in (True, False)
    for proof in result.proofs:
        proof.objection(result.model.layers_to_reroute())
    _save_again(result, scratch)


@functools.cache
def _checked() -> kvlens.CheckResult:
    return kvlens.check(tiny("llama"), ["a cat", "a text"])


def use_word_lens(lens: kvlens.WordLens, scratch: Path) -> None:
    _show(lens)
    for share in lens.shares:
        assert share in lens.shares_of(share.kind, share.centred, share.head)
        lens.half_interval(share)
    for words in lens.words:
        assert len(words.tokens) == len(words.weights) == len(words.own)
        assert words in lens.words_of(words.text, words.kind, words.centred, words.head)
    _save_again(lens, scratch)


@functools.cache
def _read() -> kvlens.WordLens:
    return kvlens.word_lens(tiny("llama"), ["a cat", "a text"], top=2, heads=False)


def make_word_lens(folder: Path) -> Path:
    return _read().save(folder / "word_lens.json")


def make_static_prefix(folder: Path) -> Path:
    trace = kvlens.Trace.load(OLD / "trace.safetensors")
    return kvlens.static_prefix(trace).save(folder / "prefix.safetensors")


def use_static_prefix(prefix: kvlens.StaticPrefix, scratch: Path) -> None:
    held = kvlens.calibration(prefix)
    for layer in prefix.layers:
        assert held.mean("key", layer).isfinite().all()
        assert held.mean("value", layer).isfinite().all()


@functools.cache
def _left_out() -> kvlens.Effects:
    return kvlens.effects(tiny("llama"), ["a cat", "a text"], (1,))


def make_effects(folder: Path) -> Path:
    return _left_out().save(folder / "effects.json")


def use_effects(effects: kvlens.Effects, scratch: Path) -> None:
    assert str(effects)
    assert all(effect.words for effect in effects.of("head"))


@functools.cache
def _decided() -> kvlens.Decision:
    texts = kvlens.Texts(tuple(f"text {i} of {i} words" for i in range(60)), "here")
    return kvlens.choose(tiny("llama"), texts, biases=(1.0,), posts=(), finalists=6)


def make_decision(folder: Path) -> Path:
    return _decided().save(folder / "decision.json")


def use_decision(decision: kvlens.Decision, scratch: Path) -> None:
    assert str(decision)
    assert decision.chosen in decision.rows
    assert decision.of_origin("best window")


@functools.cache
def _probed() -> kvlens.ProbeTokens:
    return kvlens.probe_tokens(tiny("llama"), ["a cat", "a text"], (1, 2), columns=2)


def make_probe_tokens(folder: Path) -> Path:
    return _probed().save(folder / "probe_tokens.json")


def use_probe_tokens(found: kvlens.ProbeTokens, scratch: Path) -> None:
    _show(found)
    for each in found.layers:
        assert each.layer < found.model.n_layers
        assert len(each.common) == len(each.common_share)
    _save_again(found, scratch)


@functools.cache
def _cut() -> kvlens.LowRank:
    return kvlens.low_rank(tiny("llama"), ["a cat", "a text"], shares=(0.25, 0.5))


def make_low_rank(folder: Path) -> Path:
    return _cut().save(folder / "low_rank.json")


def use_low_rank(found: kvlens.LowRank, scratch: Path) -> None:
    _show(found)
    for cut in found.cuts:
        assert 0 < cut.share <= 1
        assert 0 < found.share_needed(cut.kind, cut.layer) <= 1
    for way in ("progressive", "uniform"):
        assert all(each in found.schedules for each in found.schedules_of(way))
    _save_again(found, scratch)


def make_check(folder: Path) -> Path:
    return _checked().save(folder / "check.json")


def old_format(file: str, reader: Any, use: Callable[[Any, Path], None]) -> Format:
    """The format of a file of version 0.1.0, whose good copy is that file."""
    return Format(file, partial(_copy, file), reader.load, use)


RUN_FILES = {
    "profile.json": "profile.json",
    "layers.json": "layers.json",
    "geometry.json": "geometry.json",
    "scores.json": "scores.json",
    "sweep.json": "sweep.json",
    "shift.safetensors": "attention/shift.safetensors",
    "patterns.safetensors": "attention/patterns-1.safetensors",
}


def make_run_folder(folder: Path) -> Path:
    run = folder / "run"
    (run / "attention").mkdir(parents=True)
    for file, place in RUN_FILES.items():
        shutil.copy(OLD / file, run / place)
    model = kvlens.LayerSet.load(OLD / "layers.json").model
    _read().model_copy(update={"model": model}).save(run / "word_lens.json")
    return run


def use_run(run: Run, scratch: Path) -> None:
    assert len(run.hashes) == len(RUN_FILES) + 1  # the words
    assert run.missing == ()


FORMATS = (
    old_format("trace.safetensors", kvlens.Trace, use_trace),
    old_format("trace_all.safetensors", kvlens.Trace, use_trace),
    old_format("post-whiten.safetensors", kvlens.Post, use_post),
    old_format("shift.safetensors", kvlens.AttentionShift, use_shift),
    old_format("patterns.safetensors", kvlens.AttentionPatterns, use_patterns),
    old_format("profile_v.json", kvlens.IDProfile, use_profile),
    old_format("layers.json", kvlens.LayerSet, use_layer_set),
    old_format("layers_explicit.json", kvlens.LayerSet, use_layer_set),
    old_format("sweep.json", kvlens.Sweep, use_sweep),
    old_format("study.json", kvlens.LayerStudy, use_study),
    old_format("scores.json", kvlens.Scores, use_scores),
    old_format("kv_lens.json", kvlens.KVLens, use_lens),
    old_format("geometry.json", kvlens.Geometry, use_geometry),
    Format("prefix.safetensors", make_static_prefix, kvlens.StaticPrefix.load, use_static_prefix),
    Format("a trace in shards", make_shards, kvlens.Trace.load, use_shards),
    Format("effects.json", make_effects, kvlens.Effects.load, use_effects),
    Format("decision.json", make_decision, kvlens.Decision.load, use_decision),
    Format("low_rank.json", make_low_rank, kvlens.LowRank.load, use_low_rank),
    Format("probe_tokens.json", make_probe_tokens, kvlens.ProbeTokens.load, use_probe_tokens),
    Format("check.json", make_check, kvlens.CheckResult.load, use_check),
    Format("word_lens.json", make_word_lens, kvlens.WordLens.load, use_word_lens),
    Format("any JSON", partial(_copy, "layers_explicit.json"), kvlens.open, use_layer_set),
    Format("any tensors", partial(_copy, "shift.safetensors"), kvlens.open, use_shift),
    Format("a run folder", make_run_folder, Run.read, use_run, exact=True, weight=0.3),
)


def campaign(seed: int, n: int, folder: Path, only: str = "") -> Counter[str]:
    """Try about `n` damaged files of all formats; see `campaign_of`."""
    return campaign_of(FORMATS, seed, n, folder, only)


if __name__ == "__main__":
    survey(FORMATS, *sys.argv[1:])
