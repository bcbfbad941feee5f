"""What every test has: the zoo's models, each built once, the real small model, checked axes."""

import functools
import json
import os

import fsspec
import hypothesis
import numpy as np
import pyarrow as pa
import pytest
from axes import check_axes

check_axes()  # before anything of it is imported

from zoo import CONFIGS, tiny  # noqa: E402

import kvlens  # noqa: E402

# A slow or busy machine must not fail a law; CI draws the same examples every time.
hypothesis.settings.register_profile("kvlens", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("kvlens")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Tests of a family stand side by side, so that few processes build its model."""
    items.sort(key=family_of)


def family_of(item):
    """The family that a test of the zoo is about; empty for other tests, which come first."""
    is_of_zoo = item.get_closest_marker("zoo") and hasattr(item, "callspec")
    return item.callspec.params.get("name", "") if is_of_zoo else ""


@pytest.fixture(scope="session")
def zoo():
    """``zoo(name)``: a small model, built once, for tests that leave it as it was."""
    return functools.cache(tiny)


@pytest.fixture(scope="session", params=sorted(CONFIGS))
def lm(request, zoo) -> kvlens.LanguageModel:
    return zoo(request.param)


@pytest.fixture(scope="session")
def smollm() -> kvlens.LanguageModel:
    return kvlens.load("smollm2-135m")


@pytest.fixture(scope="session")
def pairs_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = [
        {"sentence1": f"text {a}", "sentence2": f"text {b} {'x' * b}", "score": float(abs(a - b))}
        for a, b in rng.integers(0, 30, (40, 2)).tolist()
    ]
    path = tmp_path_factory.mktemp("pairs") / "validation.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.fixture(scope="session")
def pairs_address(pairs_file):
    """The same pairs elsewhere, zipped."""
    system = fsspec.filesystem("memory")
    zipped = pa.compress(pairs_file.read_bytes(), "zstd", asbytes=True)
    system.pipe("/pairs/validation.jsonl.zst", zipped)
    yield "memory://pairs/validation.jsonl.zst"
    system.rm("/pairs", recursive=True)
