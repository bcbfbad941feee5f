"""Pool: how many actors an engine runs, and what each of them gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kvlens.store.arguments import real_number, whole_number

HELPERS = 3  # cores beside the actors': who reads texts, leaves out what is done, writes parts


@dataclass(frozen=True)
class Pool:
    """The actors of a run; each holds one model.

    Attributes:
        actors: how many; None: one a GPU, or one where there is none.
        cpus: cores of each, which are its threads, too; None: one beside a GPU, else an equal
            share of all cores but those of the helpers.
        gpus: of each; None: one where there is any.
    """

    actors: int | None = None
    cpus: int | None = None
    gpus: float | None = None

    def __post_init__(self) -> None:
        """Raise InputError for what are no numbers of these."""
        for name in ("actors", "cpus"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(name, getattr(self, name), least=1))
        if self.gpus is not None:
            object.__setattr__(self, "gpus", real_number("gpus", self.gpus, least=0))

    def on(self, resources: Mapping[str, float]) -> Pool:
        """The pool with every number filled in.

        Args:
            resources: what there is, ``CPU`` and ``GPU``, as Ray counts it.

        Returns:
            A pool without None.
        """
        n_gpus = resources.get("GPU", 0)
        n_cpus = int(resources.get("CPU", 1)) - HELPERS
        gpus = self.gpus if self.gpus is not None else float(n_gpus > 0)
        actors = self.actors or max(1, int(n_gpus / gpus) if gpus else 1)
        share = 1 if gpus else max(1, n_cpus // actors)
        return replace(self, actors=actors, cpus=self.cpus or share, gpus=gpus)
