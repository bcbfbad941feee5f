"""Damaged files of kvlens' own formats: every reader holds the law of `damage`.

``PYTHONPATH=tests python -m torture.own_files SEED N [FORMAT]`` tells all that breaks, and why.
"""

from __future__ import annotations

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

import kvlens
from kvlens.layers.route import Route
from kvlens.store.facts import PICTURES

UNPRINTABLE = set(map(chr, range(32))) - {"\n"} | set(map(chr, range(127, 160)))
OLD = Path(__file__).parents[1] / "data" / "v0.1.0"


def _copy(file: str, folder: Path) -> Path:
    return Path(shutil.copy(OLD / file, folder))


def _save_again(value: Any, scratch: Path) -> None:
    """Saved and loaded, the value is equal, and so is what it saves again."""
    first = value.save(scratch / "first.x")
    second = type(value).load(first).save(scratch / "second.x")
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
    kinds = [kind for kind in ("hidden", "k", "k_pre", "v") if kind in trace.tensors]
    for layer in trace.layers:
        for kind in kinds:
            states = trace.states(layer, kind)
            assert states.dtype == np.float32
            assert np.isfinite(states).all()
    _save_again(trace, scratch)


def use_post(post: kvlens.Post, scratch: Path) -> None:
    _show(post)
    mapped = post(torch.ones(2, len(post.mean)))
    assert mapped.shape == (2, post.matrix.shape[1])
    assert torch.isfinite(mapped).all()
    post.facts()
    _save_again(post, scratch)


def use_shift(shift: kvlens.AttentionShift, scratch: Path) -> None:
    _show(shift)
    for kind in ("local", "propagated"):
        shift.ends(kind)
    _save_again(shift, scratch)


def use_patterns(patterns: kvlens.AttentionPatterns, scratch: Path) -> None:
    _show(patterns)
    start, end = patterns.text_span
    assert patterns.arrays["beta"].shape[-1] == len(patterns.tokens) >= end >= start
    _save_again(patterns, scratch)


def use_profile(profile: kvlens.IDProfile, scratch: Path) -> None:
    _show(profile)
    profile.warnings  # noqa: B018
    for estimator in profile.estimates:
        assert np.isfinite(profile.values(estimator)).all()
        kvlens.select(profile, "paper", estimator=estimator)
    _save_again(profile, scratch)


def use_layer_set(layer_set: kvlens.LayerSet, scratch: Path) -> None:
    _show(layer_set)
    Route.of(layer_set.model, layer_set)
    _save_again(layer_set, scratch)


def use_sweep(sweep: kvlens.Sweep, scratch: Path) -> None:
    _show(sweep)
    for window in sweep.measured:
        assert sweep.find(window.layers, window.bias) is not None
        sweep.windows_of(window.width, window.bias)
    _save_again(sweep, scratch)


def use_study(study: kvlens.LayerStudy, scratch: Path) -> None:
    _show(study)
    _save_again(study, scratch)


def use_scores(scores: kvlens.Scores, scratch: Path) -> None:
    _show(scores)
    scores.frame()
    scores.csv()
    scores.markdown()
    _save_again(scores, scratch)


def use_lens(lens: kvlens.KVLens, scratch: Path) -> None:
    _show(lens)
    for spectrum in lens.spectra:
        lens.spectra_of(spectrum.kind, spectrum.head)
    _save_again(lens, scratch)


def use_geometry(geometry: kvlens.Geometry, scratch: Path) -> None:
    _show(geometry)
    for cosines in geometry.cosines.values():
        n = len(geometry.sentences)
        assert np.array(cosines).shape == (n, n)
    _save_again(geometry, scratch)


def old_format(file: str, reader: Any, use: Callable[[Any, Path], None]) -> Format:
    """The format of a file of version 0.1.0, whose good copy is that file."""
    return Format(file, partial(_copy, file), reader.load, use)


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
)


def campaign(seed: int, n: int, folder: Path) -> Counter[str]:
    """Try about `n` damaged files of all formats; see `campaign_of`."""
    return campaign_of(FORMATS, seed, n, folder)


if __name__ == "__main__":
    survey(FORMATS, *sys.argv[1:])
