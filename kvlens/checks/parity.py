"""Parity: what kvlens records and re-routes, against what the model at hand gives by itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from kvlens.checks.check_result import CheckResult, ReadFrom
from kvlens.layers.route import POSITIONS
from kvlens.models.language_model import LanguageModel, Tree, a_model
from kvlens.rerouting.proof import Proof, proof_of
from kvlens.store.checking import arguments, optional, real
from kvlens.store.provenance import current_command, versions
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import tokenize
from kvlens.tracing.kinds import KEEP
from kvlens.tracing.raw import raw_states
from kvlens.tracing.recording import record
from kvlens.tracing.sourcing import relative_difference, source_of, tolerance_of

CHECK_TEXTS = (
    "a",
    "The cat sat on the mat.",
    "Two sentences are here. The second one is a little longer than the first.",
    "Numbers such as 1,234.5 and symbols (like <b>&amp;</b>) are tokens too; "
    "so are naïve words and 日本語.",
    "A river carries stones from the mountains to the sea, "
    "and over many years it grinds them into sand. " * 3,
)

ONE_BATCH = 10**6  # tokens


@arguments(lm=a_model, tolerance=optional(real(least=0)))
def check(
    lm: LanguageModel,
    texts: Texts | Sequence[str] = CHECK_TEXTS,
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    tolerance: float | None = None,
) -> CheckResult:
    """Prove recording and re-routing right on a model.

    Recorded hidden states, K (before and after RoPE) and V are compared with raw transformers. The
    recording runs in padded batches, both padding sides, through the bridge where that shows the
    states; the truth runs unpadded, one text at a time, through raw transformers: hidden states
    from the decoder blocks' outputs, keys and values from the attention modules' own calls, and the
    key before RoPE from a call without rotation. Where blocks give several streams of hidden
    states, keys and values are compared alone.

    Re-routing is probed in every layer, at every position of the re-routed key, in raw transformers
    and, where states are read from it, in TransformerLens (see `rerouting.probe`).

    Args:
        lm: the model.
        texts: what is recorded.
        prompt: a prompt, its name or a template.
        tolerance: of the recording; default 2e-4 in float32, 5e-2 in half precisions; of a
            difference relative to the largest magnitude of the same kind and layer, since massive
            activations make absolute differences meaningless.

    Returns:
        The largest differences.

    Raises:
        InputError: as `record`.
    """
    texts = as_texts(texts)
    prompt = as_prompt(prompt)
    worst = recording_differences(lm, texts, prompt)
    source = source_of(lm)
    return CheckResult(
        model=lm.info,
        prompt=prompt,
        n_texts=len(texts),
        tolerance=tolerance_of(lm) if tolerance is None else tolerance,
        differences={kind: difference for kind, (difference, _) in worst.items()},
        worst_layers={kind: layer for kind, (_, layer) in worst.items()},
        source=ReadFrom(
            tree=source.tree,
            again=tuple(sorted(source.again)),
            sides=source.sides,
            reason=source.reason,
        ),
        proofs=_proofs(lm, source.tree),
        versions=versions(),
        command=current_command(),
    )


def recording_differences(
    lm: LanguageModel, texts: Texts, prompt: Prompt
) -> dict[str, tuple[float, int]]:
    """How far the recording is from raw transformers.

    Args:
        lm: the model.
        texts: what is recorded.
        prompt: around every text.

    Returns:
        Kind of states -> the largest relative difference, and its layer; no hidden states of a
        model whose blocks give several streams of them.

    Raises:
        InputError: as `record`.
    """
    truth = _truth(lm, texts, prompt)
    of_the_model = {name.split(".")[0] for name in truth}
    keep = [kind for kind in KEEP if kind in of_the_model]
    worst = dict.fromkeys(keep, (-1.0, 0))
    for side in source_of(lm).sides:
        trace = record(lm, texts, prompt, keep=keep, padding_side=side, batch_tokens=ONE_BATCH)
        for name, expected in truth.items():
            kind, layer = name.split(".")
            states = torch.from_numpy(trace.states(int(layer), kind))
            difference = relative_difference(states, expected.flatten(1))
            worst[kind] = max(worst[kind], (difference, int(layer)))
    return worst


def _proofs(lm: LanguageModel, source: Tree) -> tuple[Proof, ...]:
    """Re-routing at every position of the key, in the module trees that are used."""
    if not lm.info.layers_to_reroute():
        return ()
    trees: tuple[Tree, ...] = ("raw", "bridge") if source == "bridge" else ("raw",)
    cases = product(POSITIONS, trees)
    return tuple(proof_of(lm, position, tree, anew=True) for position, tree in cases)


def _truth(lm: LanguageModel, texts: Texts, prompt: Prompt) -> dict[str, Tensor]:
    """Kind and layer, as in ``k.3`` -> states of all texts, from raw transformers."""
    tokenized = tokenize(lm.tokenizer, texts.items, prompt, lm.info.max_positions)
    by_text = [raw_states(lm, text.ids) for text in tokenized]
    return {name: torch.stack([states[name] for states in by_text]) for name in by_text[0]}
