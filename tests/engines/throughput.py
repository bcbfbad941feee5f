"""How long a tiny model takes for many short texts, by the local engine and by Ray.

``python tests/engines/throughput.py 100000 --actors 2`` prints a JSON line for each.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import kvlens
from kvlens.checks.tiny_model import made_texts, save_tiny_model
from kvlens.embedding.file_options import FileRun
from kvlens.engines.pool import Pool
from kvlens.engines.ray_embedding import embed_with_ray
from kvlens.engines.recipe import EncoderRecipe


def measured(engine, work):
    """Print what a piece of work took."""
    start = time.monotonic()
    result = work()
    seconds = time.monotonic() - start
    figures = {"engine": engine, "texts": result.rows, "seconds": round(seconds)}
    print(json.dumps(figures | {"texts/s": round(result.rows / seconds)}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("n", type=int)
    parser.add_argument("--actors", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=1024)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_tiny_model(folder / "model")
        source = folder / "texts.txt"
        with source.open("w") as file:
            file.writelines(f"{text}\n" for text in made_texts(given.n))
        recipe = EncoderRecipe(f"{folder}/model", method="mean")
        run = FileRun(chunk=given.chunk)
        pool = Pool(given.actors, cpus=1)
        near, far = folder / "local.npy", folder / "ray.parquet"
        encoder = recipe.encoder()
        measured("local", lambda: kvlens.embed_file(encoder, source, near, chunk=given.chunk))
        measured("ray", lambda: embed_with_ray(recipe, source, far, run=run, pool=pool))
        same = np.array_equal(kvlens.open(near).vectors, kvlens.open(far).vectors)
        print(json.dumps({"equal to the last bit": bool(same)}))


if __name__ == "__main__":
    main()
