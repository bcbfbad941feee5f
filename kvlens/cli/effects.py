"""`kvlens attend --effects`: what each part of the route does, in files and as a short table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from kvlens.cli.progress import progress
from kvlens.cli.values import Dashed
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.models.language_model import LanguageModel
    from kvlens.studies.effects import Effects
    from kvlens.texts.pairs import Pairs
    from kvlens.texts.prompts import Prompt
    from kvlens.texts.texts import Texts

EFFECT_FILES = ("effects.json", "effects.png", "effects.pdf")
N_TEXTS = 100  # or pairs: every part costs a pass of its own
MOST_ROWS = 16


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class EffectOptions:
    """What each part of the route does.

    Attributes:
        effects: leave out each part of the route in turn, and nothing else
        pairs: .jsonl, hf://ORG/NAME, ... with sentence1, sentence2, score: effects on quality, too
        calibration: trace or static prefix: effects of other texts' values, too
    """

    effects: bool = False
    pairs: Dashed | None = None
    calibration: Path | None = None

    def check(self, *texts: str | None) -> None:
        """Raise InputError for what goes without effects, and for no or several inputs.

        Args:
            texts: further inputs, None where they were not given.
        """
        if not self.effects:
            if self.pairs is not None or self.calibration is not None:
                raise InputError("`pairs` and `calibration` are for `effects`: give it, too")
            return
        if sum(each is not None for each in (*texts, self.pairs)) != 1:
            raise InputError("`effects` are of one of `text`, `texts` or `pairs`: give one")

    def read(self, n: int | None) -> Pairs | None:
        """The pairs, n of them, evenly spread; None where no file was given."""
        from kvlens.texts.pairs import read_pairs

        return read_pairs(self.pairs, n or N_TEXTS) if self.pairs is not None else None


def write_effects(
    lm: LanguageModel,
    texts: Texts | Pairs,
    layers: Any,
    prompt: Prompt,
    folder: Path,
    **options: Any,
) -> str:
    """Write the effects and their picture.

    Args:
        lm: the model.
        texts: or pairs.
        layers: block indices, or a layer set's file, whose pooling is taken.
        prompt: around each text.
        folder: to write into.
        **options: of `kvlens.effects`; `control`: options of the route that go before those of
            `layers`.

    Returns:
        What was found, for people.
    """
    from kvlens.layers.route import Route
    from kvlens.plots.saving import save_effects_plot
    from kvlens.rerouting.calibration import with_calibration
    from kvlens.store.provenance import current_command
    from kvlens.studies.effects import effects

    options["command"] = current_command()
    control = options.pop("control", {})
    route = layers
    if control:
        given = with_calibration(layers, control)
        route = Route.of(lm.info, layers, force=options.get("force", False), **given)
    with progress("measuring effects") as bar:
        found = effects(lm, texts, route, prompt, _pooling(layers), progress=bar, **options)
    found.save(folder / "effects.json")
    save_effects_plot(found, folder)
    return "\n".join(effect_table(found))


def _pooling(layers: Any) -> str:
    """The pooling of a layer set's file; for other layers that of `kvlens.effects`."""
    from kvlens.layers.layer_set import LayerSet

    return LayerSet.load(layers).pooling if isinstance(layers, str) else "hybrid"


def effect_table(effects: Effects) -> Iterator[str]:
    """Lines for people: the parts that move embeddings most, the strongest first.

    Args:
        effects: of a route's parts.
    """
    strongest = sorted(effects.effects, key=lambda each: -each.moved)[:MOST_ROWS]
    yield str(effects.model_copy(update={"effects": tuple(strongest)}))
    weaker = len(effects.effects) - len(strongest)
    if weaker:
        yield f"and {weaker} weaker ones, in effects.json"
    if effects.score is not None:
        score = effects.score.text(".1f")
        yield f"Spearman x 100 over {effects.n_pairs} pairs, with all of the route: {score}"
