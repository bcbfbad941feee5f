"""Made-up profiles of known shapes."""

import numpy as np

from kvlens.dimension.draws import Draws
from kvlens.dimension.profile import IDEstimate, IDProfile
from kvlens.dimension.sink import Sink
from kvlens.layers.selection import select
from kvlens.models.info import ModelInfo
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.texts import TextsInfo

GEMMA = [
    11.8, 10.2, 10.7, 11.5, 11.5, 11.2, 12.1, 11.8, 11.5,
    12.8, 13.7, 14.5, 10.9, 11.5, 11.9, 11.0, 11.3, 12.0,
]  # fmt: skip
SMOLLM2 = np.interp(np.arange(30), [0, 15, 29], [11.7, 18.5, 14.0])
U = 9.5 + 0.03 * (np.arange(30) - 11.0) ** 2
RISING = 9 + 0.3 * np.arange(30)


def make_model(n_layers, name="test-model", able=None):
    """A model of which only the layers `able` have keys; None: all."""
    return ModelInfo(
        name=name,
        revision="sha256:0",
        architecture="LlamaForCausalLM",
        n_layers=n_layers,
        n_heads=4,
        n_kv_heads=2,
        d_head=8,
        d_model=32,
        vocab_size=100,
        max_positions=64,
        dtype="float32",
        device="cpu",
        tokenizer="sha256:1",
        key_layers=able,
        reroutable=able,
    )


def make_profile(
    values,
    stderr=0.4,
    *,
    name="test-model",
    n_layers=None,
    layers=None,
    mle=None,
    warn=None,
    n=1000,
    dropped=0,
    prompt="kv-document",
    points="last",
    able=None,
    sink=None,
    drawn=None,
) -> IDProfile:
    """A profile with these TwoNN values (and MLE ones), one a layer.

    warn: layer -> warning; sink: block of b*; drawn: ID by draw and layer, of every estimator.
    """
    layers = list(range(len(values)) if layers is None else layers)
    errors = np.broadcast_to(stderr, len(layers))
    warn = warn or {}

    def estimates(numbers):
        return tuple(
            IDEstimate(
                layer=layer,
                value=float(value),
                stderr=float(error),
                n=n - dropped,
                dropped=dropped,
                warnings=(warn[layer],) if layer in warn else (),
            )
            for layer, value, error in zip(layers, numbers, errors, strict=True)
        )

    by_estimator = {"twonn": estimates(values)}
    if mle is not None:
        by_estimator["mle"] = estimates(mle)
    return IDProfile(
        format="kvlens.id-profile",
        model=make_model(n_layers or len(values), name, able),
        states="hidden",
        points=points,
        prompt=PROMPTS[prompt],
        texts=TextsInfo(source="made up", n=n, sha256="0" * 64),
        estimates=by_estimator,
        scales=(),
        versions={"kvlens": "0"},
        sink=sink if sink is None else Sink(block=sink, before=0.9, after=148.0, n=n, share=0.98),
        draws=drawn if drawn is None else make_draws(drawn, by_estimator, n // 2),
    )


def make_draws(drawn, estimators, n):
    lines = tuple(map(tuple, np.asarray(drawn, dtype=float).round(3).tolist()))
    return Draws(n=n, seed=0, values=dict.fromkeys(estimators, lines))


def noisy(values, stderr=0.4, draws=50, seed=0):
    """Draws of a profile: its values, each layer's with an error of its own."""
    return np.random.default_rng(seed).normal(values, stderr, (draws, len(values)))


# What pictures are drawn of.
STDERR = np.linspace(0.2, 0.6, 30)
PROFILE = make_profile(
    U,
    STDERR,
    mle=U - 1,
    warn={3: "no plateau: GRIDE 3", 4: "no plateau: GRIDE 4"},
    name="model-30",
    dropped=4,
)
CHOSEN = select(PROFILE)  # layers 11-14
MARKED = make_profile(U, STDERR, name="model-30", sink=12, drawn=noisy(U, STDERR))
OTHER = make_profile(GEMMA, 0.5, name="model-18", n=690)
LONG = make_profile(
    np.linspace(8, 30, 80),
    0.3,
    name="an-organisation/" + "a-very-long-model-name-" * 4 + "80-layers",
)
