"""Named: every other estimator of scikit-dimension, by its name, on the points themselves.

They have no formula for their error here, so it is taken from random halves of the points.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from kvlens.dimension.estimators import ESTIMATORS
from kvlens.dimension.profile import NoEstimate
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError, one_line

HALVES = 10  # for a standard error, which is then good to a quarter

# What they raise at points that they cannot do with.
FAILURES = (ValueError, ArithmeticError, LookupError, RuntimeError, TypeError)


@dataclass(frozen=True)
class Named:
    """One of scikit-dimension's estimators, as it comes; what is random in it has the seed 0.

    Attributes:
        name: that of its class, in small letters.
        kind: its class.
    """

    name: str
    kind: type[Any]

    def value(self, points: Float[np.ndarray, "n d"]) -> float:
        """The ID of points; raises `NoEstimate` where it has none."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = float(self.kind(**self._options(points)).fit(points).dimension_)
        except FAILURES as error:
            raise NoEstimate(f"{self.name} fails: {one_line(error)}") from error
        if not (np.isfinite(value) and value > 0):
            raise NoEstimate(f"{self.name} came out as {value:g}")
        return value

    def stderr(self, points: Float[np.ndarray, "n d"]) -> float:
        """The standard deviation over random halves, see `kvlens.dimension.draws`.

        Rather too large than too small: for an estimator that looks at near neighbours, which in a
        half are others, by up to the root of two.
        """
        rng = np.random.default_rng(0)
        half = len(points) // 2
        values = [self.value(points[rng.permutation(len(points))[:half]]) for _ in range(HALVES)]
        return float(np.std(values, ddof=1))

    def _options(self, points: Float[np.ndarray, "n d"]) -> dict[str, Any]:
        """Seeded, silent, and free to say every dimension that the points can have."""
        wanted = {"random_state": 0, "verbose": False}
        if self.name == "mind_ml":  # else it says 10 at most
            wanted["D"] = points.shape[1]
        parameters = inspect.signature(self.kind).parameters
        return {name: value for name, value in wanted.items() if name in parameters}


def canonical(estimators: Sequence[str]) -> tuple[str, ...]:
    """The names of estimators as results have them, in small letters.

    Raises:
        InputError: for a name that scikit-dimension does not have, and for none.
    """
    names = tuple(name.lower() for name in estimators)
    for name, given in zip(names, estimators, strict=True):
        if name not in ESTIMATORS and name not in _kinds():
            raise InputError(f"unknown estimator {shown(given)}: the known ones are {_known()}")
    if not names:
        raise InputError(f"no estimator given: the known ones are {_known()}")
    return names


def named(name: str) -> Named:
    """The estimator of a canonical name."""
    return Named(name, _kinds()[name])


@functools.cache
def _kinds() -> dict[str, type[Any]]:
    import skdim.id

    kinds = [kind for kind in vars(skdim.id).values() if inspect.isclass(kind)]
    return {kind.__name__.lower(): kind for kind in kinds if hasattr(kind, "fit")}


def _known() -> str:
    return ", ".join(dict.fromkeys([*ESTIMATORS, *sorted(_kinds())]))
