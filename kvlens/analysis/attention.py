"""AttentionShift: how re-routing the final token's key and value changes attention, for early tokens above all.

It takes the weight ``beta = sigmoid(scale * q.k_last + b - lse)`` of a query and multiplies its causal weights
by ``1 - beta`` (uptake identity). Each batch runs twice through the TransformerLens bridge:
1. plain, for the patterns before and the LOCAL effect, of a layer's own prefix on its unchanged inputs: the prefix
   column is read and masked again, so that the pass stays plain exactly, on every architecture that `reroute` serves;
2. re-routed, for the PROPAGATED effect: inputs already changed by the re-routed layers below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import cosine_similarity, one_hot

from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.prefix import check_request, reroute
from kvlens.store.artifact import TensorArtifact
from kvlens.store.errors import InputError
from kvlens.store.facts import facts_html, picture_of
from kvlens.store.provenance import versions
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, get_prompt
from kvlens.texts.texts import Texts, TextsInfo, as_texts
from kvlens.texts.tokens import TokenBatch, TokenizedText, batches, pad, tokenize
from kvlens.tracing.recording import finite_or_refuse

NEIGHBOURS = 8  # so many tokens before a query are its local neighbourhood
KINDS, REGIONS, SPANS = (
    ("local", "propagated"),
    ("sink", "neighbours", "prompt"),
    ("prompted", "text"),
)
Tap = Callable[..., Any]


@dataclass(frozen=True)
class _Result(TensorArtifact):
    """layers: re-routed blocks, ascending; bias: one per layer; position: see `reroute`."""

    again: ClassVar[str] = "run `kvlens attend` again"
    version: ClassVar[int] = 1

    model: ModelInfo
    prompt: Prompt
    layers: tuple[int, ...]
    bias: tuple[float, ...]
    position: str
    versions: dict[str, str] = field(repr=False)
    arrays: dict[str, np.ndarray] = field(repr=False)


@dataclass(frozen=True)
class AttentionShift(_Result):
    """The change of attention over a corpus; L layers, H heads. Token i of n lies in bin ``floor(bins * i / n)``,
    counted over the whole prompted text (span ``prompted``) or over the text's own tokens (``text``).

    arrays: ``Q.mean``, ``Q.std`` (over tokens, ddof 0), float64 [L, H, bins], and ``Q.n`` (tokens), int64 [bins], for
    each quantity Q. ``beta.*``: the prefix's weight. ``entropy.*``: of a query's weights, in nats, the prefix among
    them; ``context.*``: its exponential, the effective number of keys. ``sink.*``, ``neighbours.*``, ``prompt.*``:
    weight on position 0, on the `NEIGHBOURS` tokens before the query, on the prompt's tokens (they overlap).
    ``*`` is local, propagated and, but for beta, before; in the three regions local and propagated are weight LOST
    (before minus after; locally beta times before).
    Hidden states h and, re-routed, h' after the chosen blocks and the last one, [blocks, 1, bins]:
    ``moved.relative`` |h' - h| / |h|; ``moved.cosine`` of h and h'; and for all tokens but the final one f,
    cosines ``final.before`` (h, f), ``final.after`` (h', f'), ``final.towards`` (h' - h, f - h).
    ``ends.local``, ``ends.propagated``: float32 [n_texts, 2, L, H], a text's mean beta over the first and the last
    tenth (rounded up) of its tokens, NaN where it has none.
    """

    what: ClassVar[str] = "an attention shift"
    format: ClassVar[str] = "kvlens.attention-shift"

    texts: TextsInfo
    bins: int
    span: str
    n_tokens: tuple[int, ...]
    n_truncated: int

    def ends(self, kind: str = "local") -> tuple[np.ndarray, np.ndarray, int]:
        """beta (mean over heads) in the first and the last tenth, [2, L]: mean and standard deviation over texts
        (ddof 1; NaN for one text), and the number of texts. kind: local or propagated."""
        values = self.arrays[f"ends.{kind}"].astype(np.float64).mean(-1)
        values = values[np.isfinite(values).all((1, 2))]
        mean, n = values.mean(0), len(values)
        return mean, values.std(0, ddof=1) if n > 1 else np.full(mean.shape, np.nan), n

    def __str__(self) -> str:
        lines = [
            f"{self.model.name}, {self.texts.n} texts: beta in the first -> last tenth (sd over texts), {self.span}"
        ]
        for kind in KINDS:
            (a, b), (c, d), _ = self.ends(kind)
            told = [f"{a[i]:.3f} ({c[i]:.3f}) -> {b[i]:.3f} ({d[i]:.3f})" for i in range(len(a))]
            lines += [
                f"  layer {layer:>2}  {kind:10}  {text}"
                for layer, text in zip(self.layers, told, strict=True)
            ]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        told = {kind: self.ends(kind)[0] for kind in KINDS}
        facts = {
            f"layer {layer}": "; ".join(
                f"{kind} {a[i]:.3f} to {b[i]:.3f}" for kind, (a, b) in told.items()
            )
            for i, layer in enumerate(self.layers)
        }
        title = f"attention shift: {self.model.name}, {self.texts.n} texts; beta, first to last tenth ({self.span})"
        return facts_html(title, facts, (), picture_of(self, title))


@dataclass(frozen=True)
class AttentionPatterns(_Result):
    """One text of T tokens in full; text_span: its own tokens ``[start, end)`` inside the prompt.

    arrays (float32, 8 L H T^2 bytes): ``before`` [L, H, T, T]; ``after`` [L, H, T, 1 + T], propagated, column 0 the
    prefix; ``beta`` [L, H, T], local, so that local patterns after are beta beside ``(1 - beta) * before``.
    """

    what: ClassVar[str] = "a set of attention patterns"
    format: ClassVar[str] = "kvlens.attention-patterns"

    tokens: tuple[str, ...]
    text_span: tuple[int, int]


def attention_shift(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    layers: Sequence[int],
    bias: float | Sequence[float] = 1.0,
    position: str = "keep",
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    bins: int = 10,
    span: str = "prompted",
    max_length: int | None = None,
    batch_tokens: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> AttentionShift:
    """Measure over a corpus, streaming: no pattern outlives its layer. progress: called with (texts done, texts).

    Raises InputError as `reroute`, for no layers, no bins or an unknown span, and on NaN or infinity.
    """
    texts = as_texts(texts)
    given, tokenized = _request(lm, texts.items, layers, bias, position, prompt, max_length)
    if bins < 1 or span not in SPANS:
        raise InputError(
            f"bins {bins}, span {span!r}: give at least 1 bin, and a span of {' or '.join(SPANS)}"
        )
    sums, shape = _Sums(lm, bins), (len(texts), 2, len(layers), lm.info.n_heads)
    ends = {f"ends.{kind}": np.empty(shape, np.float32) for kind in KINDS}
    plain: dict[str, torch.Tensor] = {}  # of one layer in the first pass: its weight by region

    def on_pattern(kind: str, layer: int, beta: torch.Tensor, weights: torch.Tensor) -> None:
        entropy, found = (
            torch.special.entr(weights).sum(-1),
            _mass(weights[..., -batch.ids.shape[1] :], batch),
        )
        if kind == "local":
            sums.add(layer, "before", {**found, "entropy": entropy, "context": entropy.exp()})
            plain.update({f"{name} {layer}": mass for name, mass in found.items()})
            entropy = (1 - beta) * entropy + torch.special.entr(beta) + torch.special.entr(1 - beta)
            found = {name: beta * mass for name, mass in found.items()}
        else:
            found = {name: plain.pop(f"{name} {layer}") - mass for name, mass in found.items()}
        sums.add(layer, kind, {**found, "beta": beta, "entropy": entropy, "context": entropy.exp()})
        per_text = torch.einsum("bht,bte->beh", beta.cpu().double(), sums.end).numpy()
        ends[f"ends.{kind}"][batch.rows.cpu().numpy(), :, given["layers"].index(layer)] = per_text

    done = 0
    for batch in batches(tokenized, lm.tokenizer.pad_token_id, batch_tokens, device=lm.device):
        sums.place(batch, batch.text_mask if span == "text" else batch.mask.bool())
        _two_passes(lm, batch, given, on_pattern, sums.add)
        done += len(batch.rows)
        if progress:
            progress(done, len(texts))
    counts: dict[str, Any] = {
        "n_tokens": tuple(len(t.ids) for t in tokenized),
        "n_truncated": sum(t.truncated for t in tokenized),
    }
    return AttentionShift(
        **given, arrays=sums.arrays() | ends, texts=texts.info(), bins=bins, span=span, **counts
    )


def attention_patterns(
    lm: LanguageModel,
    text: str,
    layers: Sequence[int],
    bias: float | Sequence[float] = 1.0,
    position: str = "keep",
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    max_length: int | None = None,
) -> AttentionPatterns:
    """One text in full. Raises InputError as `attention_shift`."""
    given, (found,) = _request(
        lm, as_texts([text]).items, layers, bias, position, prompt, max_length
    )
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in ("before", "after", "beta")}

    def on_pattern(kind: str, layer: int, beta: torch.Tensor, weights: torch.Tensor) -> None:
        finite_or_refuse(weights, f"attention of layer {layer}", lm.info)
        for name, values in zip(
            ("before", "beta") if kind == "local" else ("after",), (weights, beta), strict=False
        ):
            kept[name].append(values[0].cpu())

    _two_passes(
        lm,
        pad([found], [0], lm.tokenizer.pad_token_id, device=lm.device),
        given,
        on_pattern,
        lambda *_: None,
    )
    arrays = {name: torch.stack(values).numpy() for name, values in kept.items()}
    tokens = readable_tokens(lm.tokenizer, found.ids)
    return AttentionPatterns(**given, arrays=arrays, tokens=tokens, text_span=found.span)


def readable_tokens(tokenizer: Any, ids: Sequence[int]) -> tuple[str, ...]:
    """Each token decoded; of a character that several tokens share, the last one shows it and the others "…"."""
    words, pending = [], list[int]()
    for token in ids:
        word = tokenizer.decode([*pending, token], clean_up_tokenization_spaces=False)
        pending = [*pending, token] if word.endswith("\ufffd") else []
        words.append("…" if pending else word)
    return tuple(words)


def token_label(token: str, most: int = 12) -> str:
    """A token for an axis: line ends and lone spaces visible, cut when long."""
    text = token.replace("\n", "↵").replace("\t", "→").strip(" ") or "␣" * min(len(token), 3)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _request(
    lm: LanguageModel,
    texts: Any,
    layers: Any,
    bias: Any,
    position: str,
    prompt: str | Prompt,
    max_length: int | None,
) -> tuple[dict[str, Any], list[TokenizedText]]:
    """The checked fields of `_Result`, but for arrays; and the tokenized texts."""
    biases = dict(zip(layers, check_request(lm, layers, bias, position), strict=True))
    if not biases:
        raise InputError("no layers to re-route: give at least one")
    ordered, prompt = (
        tuple(sorted(biases)),
        get_prompt(prompt) if isinstance(prompt, str) else prompt,
    )
    limit = min(max_length or lm.info.max_positions, lm.info.max_positions)
    found = {
        "layers": ordered,
        "bias": tuple(biases[i] for i in ordered),
        "position": position,
        "prompt": prompt,
    }
    return {**found, "model": lm.info, "versions": versions()}, tokenize(
        lm.tokenizer, texts, prompt, limit
    )


def _two_passes(
    lm: LanguageModel, batch: TokenBatch, given: dict[str, Any], on_pattern: Tap, on_hidden: Tap
) -> None:
    """Run a batch plain and re-routed. on_pattern: kind, layer, beta [batch, H, T], weights [batch, H, T, T] (local)
    or [batch, H, T, 1 + T]; on_hidden: layer, "", what `_moves` returns."""
    plain: dict[int, torch.Tensor] = {}
    bridge = lm.bridge  # has to exist before `reroute` begins

    def on_scores(scores: torch.Tensor, hook: Any, kind: str, layer: int) -> torch.Tensor:
        logits = scores.float()
        beta = torch.sigmoid(logits[..., 0] - logits[..., 1:].logsumexp(-1))
        on_pattern(kind, layer, beta, logits[..., int(kind == "local") :].softmax(-1))
        masked = torch.full_like(scores[..., :1], torch.finfo(scores.dtype).min)
        return torch.cat([masked, scores[..., 1:]], dim=-1) if kind == "local" else scores

    def on_resid(states: torch.Tensor, hook: Any, kind: str, layer: int) -> None:
        if kind == "local":
            plain[layer] = states.float()
        else:
            on_hidden(layer, "", _moves(plain.pop(layer), states.float(), batch.last))

    layers = given["layers"]
    options = {
        "position_ids": batch.positions,
        "return_type": None,
        "use_cache": False,
        "logits_to_keep": 1,
    }
    taps: list[tuple[str, Tap, int]] = [("attn.hook_attn_scores", on_scores, i) for i in layers]
    taps += [("hook_resid_post", on_resid, i) for i in {*layers, lm.info.n_layers - 1}]
    with torch.inference_mode(), reroute(lm, layers, given["bias"], given["position"]) as routing:
        routing.last = batch.last
        for kind in KINDS:
            hooks = [
                (f"blocks.{i}.{point}", partial(tap, kind=kind, layer=i)) for point, tap, i in taps
            ]
            with bridge.hooks(fwd_hooks=hooks):
                bridge(batch.ids, attention_mask=batch.mask, **options)


class _Sums:
    """Sums over the tokens of each position bin, in float64, for the batch that was placed last."""

    def __init__(self, lm: LanguageModel, bins: int):
        self.lm, self.bins = lm, bins
        self.sums: dict[
            tuple[str, int], torch.Tensor
        ] = {}  # count, sum and sum of squares, [3, H, bins]

    def place(self, batch: TokenBatch, where: torch.Tensor) -> None:
        """Find the bins and the ends of the tokens that count; where: bool [batch, T]."""
        where, last = where.cpu(), batch.last.cpu()
        rank, n = where.cumsum(1) - 1, where.sum(1, keepdim=True)
        index = (rank * self.bins // n.clamp(min=1)).clamp(0, self.bins - 1)
        self.bin = one_hot(index, self.bins).double() * where[..., None]
        self.without_final = self.bin.clone()
        self.without_final[torch.arange(len(last)), last] = 0
        tenth = -(-n // 10)
        end = torch.stack([where & (rank < tenth), where & (rank >= n - tenth)], dim=-1).double()
        self.end = end / end.sum(1, keepdim=True)

    def add(self, layer: int, kind: str, found: dict[str, torch.Tensor]) -> None:
        """Add values [batch, H, T] by name. Raises InputError on NaN or infinity."""
        for name, values in found.items():
            weights = self.without_final if name.startswith("final") else self.bin
            full = f"{name}.{kind}".removesuffix(".")
            values = values.cpu().double()
            finite_or_refuse(values, f"{full} at layer {layer}", self.lm.info)
            powers = torch.stack([torch.ones_like(values), values, values.square()])
            new = torch.einsum("pbht,btk->phk", powers, weights)
            self.sums[full, layer] = self.sums.get((full, layer), torch.zeros(())) + new

    def arrays(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for name in dict.fromkeys(name for name, _ in self.sums):
            n, total, squares = torch.stack(
                [self.sums[key] for key in sorted(self.sums) if key[0] == name], dim=1
            )
            mean = total / n
            std = (squares / n - mean.square()).clamp(min=0).sqrt()
            found |= {
                f"{name}.mean": mean.numpy(),
                f"{name}.std": std.numpy(),
                f"{name}.n": n[0, 0].long().numpy(),
            }
        return found


def _mass(weights: torch.Tensor, batch: TokenBatch) -> dict[str, torch.Tensor]:
    """Weights [batch, H, T, T] summed over each region; padding is on the right, so position 0 is a real token."""
    at = torch.arange(weights.shape[-1], device=weights.device)
    back = at[:, None] - at
    near = ((back > 0) & (back <= NEIGHBOURS)).float()
    prompt = (batch.mask.bool() & ~batch.text_mask).float()
    sums = (
        torch.einsum("bhij,ij->bhi", weights, near),
        torch.einsum("bhij,bj->bhi", weights, prompt),
    )
    return dict(zip(REGIONS, (weights[..., 0], *sums), strict=True))


def _moves(h: torch.Tensor, changed: torch.Tensor, last: torch.Tensor) -> dict[str, torch.Tensor]:
    """moved.* and final.* of hidden states [batch, T, d_model], each [batch, 1, T]."""
    rows, step = torch.arange(len(h), device=h.device), changed - h
    f, f_changed = h[rows, last][:, None], changed[rows, last][:, None]
    pairs = {
        "moved.cosine": (h, changed),
        "final.before": (h, f),
        "final.after": (changed, f_changed),
    }
    pairs["final.towards"] = (step, f - h)
    found = {name: cosine_similarity(*pair, dim=-1)[:, None] for name, pair in pairs.items()}
    return {"moved.relative": (step.norm(dim=-1) / h.norm(dim=-1))[:, None], **found}
