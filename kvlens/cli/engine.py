"""Engine: where texts are embedded or recorded, as options, and the calls for other engines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Group, Parameter

from kvlens.cli.options import ChatOptions, LengthOptions, ModelOptions, RouteOptions
from kvlens.cli.values import WholeNumber, layers_or_file
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.embedding.file_options import FileRun
    from kvlens.embedding.file_run import EmbedResult
    from kvlens.engines.pool import Pool
    from kvlens.engines.recipe import EncoderRecipe
    from kvlens.texts.texts import Texts
    from kvlens.tracing.trace import Trace

ENGINE = Group("Engine", sort_key=4)


@Parameter(name="*", group=ENGINE)
@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Where it is computed.

    Attributes:
        engine: ray: on the cluster at RAY_ADDRESS, or on this machine (needs kvlens[ray])
        actors: how many models ray runs side by side [default: one a GPU, else one]
        actor_cpus: cores, and threads, of each [default: an equal share; 1 beside a GPU]
        actor_gpus: GPUs of each [default: 1 where there is any]
    """

    engine: Literal["local", "ray"] = "local"
    actors: WholeNumber | None = None
    actor_cpus: WholeNumber | None = None
    actor_gpus: float | None = None

    @property
    def is_ray(self) -> bool:
        """Whether Ray is asked for; raises InputError for its options without it."""
        of_ray = {name: value for name, value in asdict(self).items() if name != "engine"}
        given = [name for name, value in of_ray.items() if value is not None]
        if self.engine == "local" and given:
            raise InputError(f"`{given[0]}` is an option of `engine='ray'`: give that, too")
        return self.engine == "ray"

    @property
    def pool(self) -> Pool:
        """The actors."""
        from kvlens.engines.pool import Pool

        return Pool(self.actors, self.actor_cpus, self.actor_gpus)


@Parameter(name="*", group=ENGINE)
@dataclass(frozen=True, kw_only=True)
class EmbedEngine(EngineOptions):
    """Where it is computed, and how much of it is finished at a time.

    Attributes:
        part_rows: vectors in a file of ray's folder, and finished at a time [default: 10000]
    """

    part_rows: WholeNumber | None = None

    def embed(self, recipe: EncoderRecipe, source: Any, target: Path, run: FileRun) -> EmbedResult:
        """Vectors of a file by Ray; `source` is that of `kvlens.cli.embed`.

        Raises:
            InputError: as `embed_with_ray`.
        """
        from kvlens.engines.ray_embedding import PART_ROWS, embed_with_ray

        return embed_with_ray(
            recipe,
            source.input,
            target,
            column=source.column,
            id_column=source.id_column,
            run=run,
            pool=self.pool,
            part_rows=self.part_rows or PART_ROWS,
        )


def encoder_recipe(
    name: str,
    vectors: Any,
    route: RouteOptions,
    chat: ChatOptions,
    limits: LengthOptions,
    model: ModelOptions,
) -> EncoderRecipe:
    """What makes the encoder; the options are those of `kvlens.cli.embed`."""
    from kvlens.engines.recipe import EncoderRecipe

    return EncoderRecipe(
        name,
        **_common(model, chat, limits),
        method=vectors.method,
        layers=layers_or_file(route.layers),
        post=vectors.post,
        force=route.force,
    )


def _common(model: ModelOptions, chat: ChatOptions, limits: LengthOptions) -> dict[str, Any]:
    """What every recipe is made of."""
    return {"loading": asdict(model), "chat": asdict(chat), "limits": asdict(limits)}


@contextmanager
def recorded_by_ray(
    engine: EngineOptions,
    name: str,
    texts: Texts,
    prompt: str,
    measured: Any,
    run_folder: Path,
    overwrite: bool,
    model: ModelOptions,
    chat: ChatOptions,
    limits: LengthOptions,
) -> Iterator[Trace]:
    """States of texts, recorded by Ray into shards beside a run folder.

    Args:
        engine: the actors.
        name: of the model.
        texts: without their prompt.
        prompt: around every text.
        measured: which states, see `kvlens.cli.profile`.
        run_folder: the shards lie beside it; they go when all is done, and stay where that fails,
            for the same command to go on with.
        overwrite: start again where they are of another command.
        model: how it is loaded.
        chat: the chat that prompts are put into.
        limits: how long a text may be.

    Yields:
        The trace.
    """
    from kvlens.engines.ray_recording import record_with_ray
    from kvlens.engines.recipe import RecorderRecipe
    from kvlens.store.part import discard, part_folder

    recipe = RecorderRecipe(
        name,
        **_common(model, chat, limits),
        prompt=prompt,
        points=measured.points,
        keep=measured.kept,
    )
    part = part_folder(run_folder)
    yield record_with_ray(recipe, texts, part, engine.pool, overwrite=overwrite)
    discard(part)
