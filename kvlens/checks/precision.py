"""Precision: the intrinsic dimension of a model's states in bfloat16, against those in float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from kvlens.dimension.estimation import estimate
from kvlens.dimension.profile import IDProfile
from kvlens.layers.selection import select
from kvlens.models.language_model import LanguageModel
from kvlens.store.layer_ranges import short
from kvlens.texts.limits import Limits
from kvlens.texts.texts import Texts
from kvlens.tracing.recording import record

FULL, HALF = "float32", "bfloat16"
ESTIMATOR = "twonn"

Load = Callable[[str], LanguageModel]
"""Loads the model in a dtype."""


def precision(load: Load, texts: Texts, prompt: str, limits: Limits) -> dict[str, Any]:
    """The TwoNN dimension of final-token states after every block, in both dtypes.

    Args:
        load: called once for each dtype; a model goes before the next one comes.
        texts: at least 50 different ones.
        prompt: its name, or a template.
        limits: how long a text may be, how much goes into a batch.

    Returns:
        What was measured: the largest and the mean difference, the largest in standard errors of
        float32, the rank correlation of the layers, and the layers that the paper's rule takes.

    Raises:
        InputError: as `record` and `estimate`.
    """
    full, half = (_profile(load(dtype), texts, prompt, limits) for dtype in (FULL, HALF))
    values = full.values(ESTIMATOR)
    differences = np.abs(half.values(ESTIMATOR) - values)
    return {
        "measured": f"ID of the states in {HALF} against {FULL}",
        "model": full.model.name,
        "texts": texts.n,
        "ID": f"{values.min():.1f} to {values.max():.1f}",
        "largest difference": round(float(differences.max()), 2),
        "mean difference": round(float(differences.mean()), 2),
        "in standard errors": round(float((differences / full.stderrs(ESTIMATOR)).max()), 2),
        "order of layers": round(float(spearmanr(values, half.values(ESTIMATOR))[0]), 3),
        "layers chosen": " / ".join(short(select(each).layers) for each in (full, half)),
    }


def _profile(lm: LanguageModel, texts: Texts, prompt: str, limits: Limits) -> IDProfile:
    trace = record(lm, texts, prompt, keep=("hidden",), **asdict(limits))
    return estimate(trace, estimators=(ESTIMATOR,), draws=0)
