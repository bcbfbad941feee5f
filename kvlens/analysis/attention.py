"""What re-routing does to attention: the results, as they are saved.

The final token's key and value take the weight ``beta = sigmoid(scale * q.k_last + b - lse)`` of a
query and multiply its causal weights by ``1 - beta`` (uptake identity). Two effects: LOCAL, of a
layer's own prefix on its unchanged inputs; PROPAGATED, on inputs that the re-routed layers below
have changed already. How they are measured is in `uptake`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float

from kvlens.layers.control import PAPER, Control
from kvlens.layers.route import POSITIONS, bias_per_layer
from kvlens.models.info import ModelInfo
from kvlens.store.arguments import shown
from kvlens.store.arrays import check_array, check_finite, check_names
from kvlens.store.artifact import TensorArtifact
from kvlens.store.bounds import Count, Size
from kvlens.store.checking import arguments, choice
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, picture_of, text_of_lines
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo

NEIGHBOURS = 8  # so many tokens before a query are its local neighbourhood
KINDS = ("local", "propagated")
SPANS = ("prompted", "text")

# What a query's weights add up to, in three states.
MASSES = ("sink", "neighbours", "prompt", "entropy", "context")
WHENS = ("before", *KINDS)
OF_HIDDEN = ("moved.relative", "moved.cosine", "final.before", "final.after", "final.towards")

FLOATS = ("float32", "float64")
SHIFT_AXES = {f"ends.{kind}": "n_texts 2 n_rerouted n_heads" for kind in KINDS}
"""Array of an `AttentionShift` -> its axes."""
REQUIRED = (*SHIFT_AXES, *(f"beta.{kind}.mean" for kind in KINDS))

for quantity in (*(f"beta.{kind}" for kind in KINDS), *map(".".join, product(MASSES, WHENS))):
    SHIFT_AXES |= dict.fromkeys((f"{quantity}.mean", f"{quantity}.std"), "n_rerouted n_heads bins")
    SHIFT_AXES[f"{quantity}.n"] = "bins"
for quantity in OF_HIDDEN:
    SHIFT_AXES |= dict.fromkeys((f"{quantity}.mean", f"{quantity}.std"), "n_blocks 1 bins")
    SHIFT_AXES[f"{quantity}.n"] = "bins"

PATTERN_AXES = {
    "before": "n_rerouted n_heads T T",
    "after": "n_rerouted n_heads T 1+T",
    "beta": "n_rerouted n_heads T",
}
"""Array of `AttentionPatterns` -> its axes."""


class Ends(NamedTuple):
    """The prefix's weight (mean over heads) at both ends of the texts.

    Attributes:
        mean: over texts, in the first and in the last tenth of the tokens.
        spread: standard deviation over texts (ddof 1); NaN for one text.
        n_texts: how many texts have such tokens.
    """

    mean: Float[np.ndarray, "2 n_rerouted"]
    spread: Float[np.ndarray, "2 n_rerouted"]
    n_texts: int


@dataclass(frozen=True)
class AttentionResult(TensorArtifact):
    """What the results share.

    Attributes:
        model: whose attention it is.
        prompt: around every text.
        layers: re-routed blocks, ascending.
        bias: one a layer.
        position: coding of the re-routed key, see `kvlens.layers.route.Route`.
        versions: package -> version.
        arrays: by name, see the subclasses.
        control: whom the prefix reached and what it carried.
    """

    again: ClassVar[str] = "run `kvlens attend` again"
    version: ClassVar[int] = 1

    model: ModelInfo
    prompt: Prompt
    layers: tuple[int, ...]
    bias: tuple[float, ...]
    position: str
    versions: dict[str, str] = field(repr=False)
    arrays: dict[str, np.ndarray] = field(repr=False)
    control: Control = field(default=PAPER, kw_only=True)

    def __post_init__(self) -> None:
        """Raise InputError for a route that does not fit the model."""
        if not self.layers:
            raise InputError("no layers are re-routed")
        self.model.check_layers(self.layers)
        self.model.check_reroutable(self.layers)
        bias_per_layer(self.bias, len(self.layers))
        if self.position not in POSITIONS:
            raise InputError(f"unknown position coding {shown(self.position)}")

    def _sizes(self, name: str) -> dict[str, int]:
        """How many layers and heads the arrays are of, by the array `name`."""
        of_one_head = self.arrays[name].shape[1:2] == (1,)  # or of their mean
        return {
            "n_rerouted": len(self.layers),
            "n_heads": 1 if of_one_head else self.model.n_heads,
        }


@dataclass(frozen=True)
class AttentionShift(AttentionResult):
    """The change of attention over a corpus; L re-routed layers, H heads.

    Token i of n lies in bin ``floor(bins * i / n)``, counted over the whole prompted text (span
    ``prompted``) or over the text's own tokens (span ``text``).

    `arrays` has ``Q.mean``, ``Q.std`` (over tokens, ddof 0), float64 ``[L, H, bins]``, and ``Q.n``
    (tokens), int64 ``[bins]``, for each quantity Q; where the name has a ``*``, for local,
    propagated and, but for beta, before:

    * ``beta.*``: the prefix's weight.
    * ``entropy.*``: of a query's weights, in nats, the prefix among them.
    * ``context.*``: its exponential, the effective number of keys.
    * ``sink.*``, ``neighbours.*``, ``prompt.*``: weight on position 0, on the `NEIGHBOURS` tokens
      before the query, on the prompt's tokens (they overlap). Local and propagated are the weight
      LOST: before minus after; locally beta times before.

    Hidden states h and, re-routed, h' after the chosen blocks and the last one,
    ``[blocks, 1, bins]``:

    * ``moved.relative``: |h' - h| / |h|; ``moved.cosine``: of h and h'.
    * for all tokens but the final one f, cosines ``final.before`` (h, f), ``final.after`` (h', f'),
      ``final.towards`` (h' - h, f - h).

    ``ends.local``, ``ends.propagated``: float32 ``[n_texts, 2, L, H]``, a text's mean beta over the
    first and the last tenth (rounded up) of its tokens, NaN where it has none.

    Attributes:
        texts: where the texts come from.
        bins: of relative position.
        span: prompted or text.
        n_tokens: prompted length of each text.
        n_truncated: texts that were cut.

    `arrays` may be fewer (beta and the ends have to be there), float32, and means over the heads.
    """

    what: ClassVar[str] = "an attention shift"
    format: ClassVar[str] = "kvlens.attention-shift"

    texts: TextsInfo
    bins: Size
    span: str
    n_tokens: tuple[Count, ...]
    n_truncated: Count

    def __post_init__(self) -> None:
        """Raise InputError for arrays that are not of this model, these layers, texts and bins."""
        super().__post_init__()
        if self.span not in SPANS:
            raise InputError(f"unknown span {shown(self.span)}")
        n = self.texts.n
        if n < 1 or len(self.n_tokens) != n or self.n_truncated > n:
            raise InputError(
                f"{n} texts, lengths of {len(self.n_tokens)}, {self.n_truncated} truncated: "
                "these do not go together"
            )
        check_names(self.arrays, SHIFT_AXES, REQUIRED)
        n_blocks = len({*self.layers, self.model.n_layers - 1})
        sizes = {"n_texts": n, "n_blocks": n_blocks, "bins": self.bins}
        sizes |= self._sizes("beta.local.mean")
        for name, array in self.arrays.items():
            dtypes = ("int64",) if name.endswith(".n") else FLOATS
            check_array(name, array, SHIFT_AXES[name], sizes, dtypes)
            if np.isinf(array).any():  # NaN is what nothing was measured of
                raise InputError(f"{name} has infinity")

    @arguments(kind=choice(*KINDS))
    def ends(self, kind: str = "local") -> Ends:
        """The prefix's weight in the first and the last tenth of the texts.

        Args:
            kind: local or propagated.

        Returns:
            Mean and spread over texts, and their number.
        """
        with np.errstate(invalid="ignore"):  # NaN of whatever bits
            per_text = self.arrays[f"ends.{kind}"].astype(np.float64).mean(-1)
        per_text = per_text[np.isfinite(per_text).all((1, 2))]
        n = len(per_text)
        unknown = np.full(per_text.shape[1:], np.nan)
        mean = per_text.mean(0) if n else unknown
        spread = per_text.std(0, ddof=1) if n > 1 else unknown
        return Ends(mean, spread, n)

    def __str__(self) -> str:
        lines = [
            f"{self.model.name}, {self.texts.n} texts: "
            f"beta in the first -> last tenth (sd over texts), {self.span}"
        ]
        for kind in KINDS:
            mean, spread, _ = self.ends(kind)
            for i, layer in enumerate(self.layers):
                first = f"{mean[0, i]:.3f} ({spread[0, i]:.3f})"
                last = f"{mean[1, i]:.3f} ({spread[1, i]:.3f})"
                lines.append(f"  layer {layer:>2}  {kind:10}  {first} -> {last}")
        return text_of_lines(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        facts = {f"layer {layer}": self._words(i) for i, layer in enumerate(self.layers)}
        title = (
            f"attention shift: {self.model.name}, {self.texts.n} texts; "
            f"beta, first to last tenth ({self.span})"
        )
        return facts_html(title, facts, (), picture_of(self, title))

    def _words(self, i: int) -> str:
        """Both effects in the layer at place i."""
        means = {kind: self.ends(kind).mean[:, i] for kind in KINDS}
        return "; ".join(f"{kind} {mean[0]:.3f} to {mean[1]:.3f}" for kind, mean in means.items())


@dataclass(frozen=True)
class AttentionPatterns(AttentionResult):
    """One text of T tokens in full, through L re-routed layers with H heads.

    `arrays` (float32, 8 L H T^2 bytes): ``before`` ``[L, H, T, T]``; ``after``
    ``[L, H, T, 1 + T]``, propagated, column 0 the prefix; ``beta`` ``[L, H, T]``, local, so that
    local patterns after are beta beside ``(1 - beta) * before``.

    Attributes:
        tokens: as they read.
        text_span: the text's own tokens ``[start, end)`` inside the prompt.
    """

    what: ClassVar[str] = "a set of attention patterns"
    format: ClassVar[str] = "kvlens.attention-patterns"

    tokens: tuple[str, ...]
    text_span: tuple[Count, Count]

    def _repr_html_(self) -> str:
        betas = self.arrays["beta"].mean(axis=(1, 2))
        facts = {
            f"layer {layer}": f"beta {beta:.3f}, mean over heads and tokens"
            for layer, beta in zip(self.layers, betas, strict=True)
        }
        title = f"attention patterns: {self.model.name}, {len(self.tokens)} tokens"
        alt = f"attention before and after re-routing, layer {self.layers[0]}"
        return facts_html(title, facts, (), picture_of(self, alt))

    def __post_init__(self) -> None:
        """Raise InputError for arrays that are not of this model, these layers and tokens."""
        super().__post_init__()
        T = len(self.tokens)
        first, last = self.text_span
        if not first <= last <= T:
            raise InputError(f"the text's tokens {first} to {last} are not in 0 to {T}")
        check_names(self.arrays, PATTERN_AXES, required=PATTERN_AXES)
        sizes = self._sizes("beta") | {"T": T, "1+T": 1 + T}
        for name, axes in PATTERN_AXES.items():
            check_array(name, self.arrays[name], axes, sizes)
            check_finite(name, self.arrays[name])
