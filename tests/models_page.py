"""Write docs/models.md: what works on which family, found by running it: ``make models``."""

import sys
from importlib.metadata import version
from pathlib import Path

from families import NAMES, WRAPPERS, build, family
from family_cases import (
    NO_ORACLE,
    TOLERANCE,
    difference,
    layers_of,
    rows,
    sides_of,
    states_of,
    truth_of,
)

import kvlens
from kvlens.tracing.sourcing import source_of

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
PACKAGES = ("transformers", "transformer-lens", "torch")
FEW = ["a", "The cat sat on the mat.", "Two sentences are here. The second one is longer."]
EXACT, NO, REFUSED, ALONE = "exact", "**no**", "refused", "keys, values"
COLUMNS = ("family", "class", "recording", "`keep`", "`origin`", "what to know")
HEAD = """# Models

What kvlens does on {count} families of transformers' decoder-only models, found by running it on a
tiny random model with every kind of layer that the family has
([`tests/families.py`](../tests/families.py)): {recorded} record exactly, {alone} more record
keys and values alone, {rerouted} re-route exactly. `make models` makes this page; the tests with
marker `zoo` hold the same. A model of yours is checked in the same way by `kvlens check MODEL`,
and `kvlens models MODEL` says what its layers are.

* **Recording**: hidden states, keys and values against raw transformers, within 2e-4. From the
  hook points of TransformerLens (`bridge`), from raw transformers (`raw`), or hidden states from
  the one and keys or values from the other (`both`). Where blocks give several streams of hidden
  states, keys and values alone are recorded, from raw transformers (`keys, values`):
  `kvlens profile MODEL --states v`.
* **`keep`**, **`origin`**: re-routing against brute force in float64, within 1e-5, in batches of
  one and five texts, padded on either side. `none` (not rotated) goes with `origin`.
* **Refused** is what would not be exact: by `kvlens.load`, by `kvlens.reroute` or by
  `kvlens.record`, in the line that stands under what to know.

Versions: {versions}.
"""


def recording(lm: kvlens.LanguageModel) -> str:
    """Where states come from, if they are right."""
    checked = kvlens.check(lm, FEW)
    if not checked.recording_passed:
        return NO
    if "hidden" not in checked.differences:
        return ALONE
    source = source_of(lm)
    return "both" if source.tree == "bridge" and source.again else source.tree


def rerouting(lm: kvlens.LanguageModel, name: str, position: str) -> str:
    """Whether all layers that re-route do so as brute force says."""
    layers = layers_of(lm) or [0]
    with kvlens.reroute(lm, layers, 1.0, position):
        if name in NO_ORACLE:
            return NO
        truth = truth_of(name, layers, 1.0, position)
        found = [difference(states_of(lm, rows(), side), truth) for side in sides_of(name)]
    return EXACT if max(found) < TOLERANCE else NO


def line(name: str) -> list[str]:
    """The cells of one family."""
    refusals: dict[str, None] = {}

    def tried(work, *args):
        try:
            return work(*args)
        except kvlens.InputError as error:
            refusals[str(error).replace(f"tiny-{name}", "it").replace("|", "\\|")] = None
            return REFUSED

    cells = [f"`{name}`", f"`{type(build(name)).__name__}`"]
    lm = tried(family, name)
    if lm == REFUSED:
        return [*cells, REFUSED, REFUSED, REFUSED, *refusals]
    cells.append(tried(recording, lm))
    cells += [tried(rerouting, lm, name, position) for position in ("keep", "origin")]
    return [*cells, "; ".join([*to_know(name, lm), *refusals])]


def to_know(name: str, lm: kvlens.LanguageModel) -> list[str]:
    """What is not as in a plain decoder."""
    layers = lm.anatomy.layers
    with_heads = [each for each in layers if each.n_heads]
    kinds = dict.fromkeys(each.kind for each in layers if each.kind != "none")
    rotations = {each.rotation for each in with_heads}
    sizes = {each.size_of(kind) for each in with_heads for kind in ("k", "v")}
    by_fact = {
        "read by its text decoder": name in WRAPPERS,
        f"layers: {', '.join(kinds)}": list(kinds) != ["full"],
        "no rotation": rotations == {"none"},
        "rotation in some layers": "none" in rotations and len(rotations) > 1,
        "sink": any(each.sink for each in layers),
        "soft cap": any(each.soft_cap is not None for each in layers),
        "latent cache": any(each.latent for each in layers),
        "keys and values of several sizes": len(sizes) > 1,
        "layers share keys and values": any(each.shares != "none" for each in layers),
        "padding on the right only": sides_of(name) == ("right",),
    }
    return [fact for fact, holds in by_fact.items() if holds]


def page() -> str:
    """The whole page."""
    lines = [line(name) for name in NAMES]
    head = HEAD.format(
        count=len(lines),
        recorded=sum(cells[2] not in (NO, REFUSED, ALONE) for cells in lines),
        alone=sum(cells[2] == ALONE for cells in lines),
        rerouted=sum(cells[3] == EXACT for cells in lines),
        versions=", ".join(f"{package} {version(package)}" for package in PACKAGES),
    )
    rows_of_table = [COLUMNS, ["---"] * len(COLUMNS), *lines]
    return head + "\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in rows_of_table) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else PAGE).write_text(page(), encoding="utf-8")
