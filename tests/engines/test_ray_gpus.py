"""Ray gives each actor a GPU of its own. It takes our word for how many there are."""

import os

import numpy as np
import pytest
from engine_cases import LAYERS

import kvlens
from kvlens.embedding.file_options import FileRun
from kvlens.engines.pool import Pool
from kvlens.engines.ray_embedding import embed_with_ray
from kvlens.engines.ray_pipeline import in_an_actor
from kvlens.engines.recipe import EncoderRecipe

pytestmark = [pytest.mark.engines, pytest.mark.slow]
ray = pytest.importorskip("ray")

CHUNK = 64


@pytest.fixture(scope="module", autouse=True)
def _two_gpus(quick_imports):
    ray.init(num_cpus=6, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_an_actor_a_gpu(folder):
    pool = Pool().on(ray.cluster_resources())
    assert pool == Pool(actors=2, cpus=1, gpus=1)
    assert in_an_actor(ray, pool, os.getenv, "CUDA_VISIBLE_DEVICES") in ("0", "1")
    recipe = EncoderRecipe(f"{folder}/llama", layers=LAYERS)
    run = FileRun(chunk=CHUNK)
    target = folder / "gpus.parquet"
    result = embed_with_ray(recipe, folder / "texts.jsonl", target, "text", run=run)
    local = folder / "gpus.npy"
    kvlens.embed_file(recipe.encoder(), folder / "texts.jsonl", local, chunk=CHUNK)
    found = kvlens.load_vectors(target).vectors
    assert result.rows == len(found)
    assert np.allclose(found, np.load(local), atol=1e-6)
