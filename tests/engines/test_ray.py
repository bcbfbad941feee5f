"""Ray: the same vectors and traces from actors, one of which is killed, and from two drivers."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from engine_cases import LAYERS, save_texts

import kvlens
from kvlens.cli import main
from kvlens.embedding.file_options import FileRun
from kvlens.engines.pool import Pool
from kvlens.engines.ray_embedding import embed_with_ray
from kvlens.engines.ray_recording import record_with_ray
from kvlens.engines.ray_session import ray_session
from kvlens.engines.recipe import EncoderRecipe, RecorderRecipe
from kvlens.texts.texts import Texts

pytestmark = pytest.mark.engines
pytest.importorskip("ray")

TWO = Pool(actors=2, cpus=1)
CHUNK = 8
SMALL_PARTS = 40  # rows


@pytest.fixture(scope="module", autouse=True)
def ray(quick_imports):
    """A Ray of this machine with room for two actors; what the tests start joins it."""
    with ray_session(TWO) as ray:
        yield ray


@pytest.fixture(scope="module")
def local(folder):
    """The vectors of the local engine."""
    encoder = EncoderRecipe(f"{folder}/llama", layers=LAYERS).encoder()
    kvlens.embed_file(encoder, folder / "texts.jsonl", folder / "local.npy", chunk=CHUNK)
    return kvlens.load_vectors(folder / "local.npy")


def embed(folder, name, **options):
    recipe = EncoderRecipe(f"{folder}/llama", layers=LAYERS)
    run = FileRun(chunk=CHUNK, **options)
    target = folder / name
    return embed_with_ray(
        recipe,
        folder / "texts.jsonl",
        target,
        id_column="id",
        run=run,
        pool=TWO,
        part_rows=SMALL_PARTS,
    )


def parts(folder):
    return sorted(folder.glob("[!.]*.parquet"))


def wait_for(found, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come in time")


def actors():
    """The processes that hold a model."""
    workers = psutil.Process().children(recursive=True)
    return [each for each in workers if "EmbeddingWorker" in " ".join(cmdline(each))]


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_two_actors_one_killed_midway_give_the_local_vectors(folder, local):
    """Nothing lost, nothing twice, and equal to the last bit, since the chunks are the same."""
    target = folder / "killed.parquet"
    killed = []

    def kill():
        wait_for(lambda: parts(folder / "killed.parquet.part") and actors())
        victim = actors()[0]
        victim.send_signal(signal.SIGKILL)
        killed.append((victim.pid, len(parts(folder / "killed.parquet.part"))))

    killer = in_background(kill)
    result = embed(folder, target.name)
    killer.join()
    (_, n_before) = killed[0]
    assert n_before < len(parts(target)), "it was killed when all was done"
    assert (result.rows, result.complete) == (len(local.ids), False)
    written = kvlens.open(target)
    assert written.ids == local.ids
    np.testing.assert_array_equal(written.vectors, local.vectors)
    rows = [row for part in parts(target) for row in pq.read_table(part)["row"].to_pylist()]
    assert sorted(set(rows)) == list(range(len(local.ids)))
    assert not (folder / "killed.parquet.part").exists()
    assert embed(folder, target.name, resume=True).complete


def in_background(function):
    from threading import Thread

    thread = Thread(target=function)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_driver_that_is_killed_goes_on_where_it_was(folder, local, ray, capsys):
    name = "driver.parquet"
    part = folder / f"{name}.part"
    line = (
        f"embed {folder}/llama --engine ray --actors 2 --actor-cpus 1 --layers 1,2 "
        f"-i {folder}/texts.jsonl --id-column id -o {folder}/{name} "
        f"--chunk {CHUNK} --part-rows {SMALL_PARTS}"
    )
    address = ray.get_runtime_context().gcs_address
    environment = {**os.environ, "RAY_ADDRESS": address}
    driver = subprocess.Popen([sys.executable, "-m", "kvlens.cli", *line.split()], env=environment)
    try:
        wait_for(lambda: len(committed(part)) > 2)
    finally:
        driver.kill()
        driver.wait()
    before = committed(part)
    assert main(line.split()) == 2
    assert "has a stopped run: --resume continues it" in capsys.readouterr().err
    assert main([*line.split(), "--resume", "--json"]) == 0
    assert answer(capsys)["rows"] == len(local.ids)
    written = kvlens.open(folder / name)
    assert written.ids == local.ids
    np.testing.assert_array_equal(written.vectors, local.vectors)
    n_before = sum(pq.read_metadata(folder / name / each).num_rows for each in before)
    n_in_all = sum(pq.read_metadata(each).num_rows for each in parts(folder / name))
    assert 0 < n_before < len(local.ids)
    assert n_in_all == len(local.ids), "what was finished was computed again"


def answer(capsys):
    """What a command printed; the tests' own Ray may print between commands."""
    out = capsys.readouterr().out
    return json.loads(out[out.index("{") :])


def committed(part):
    """The parts whose rows the checkpoint has."""
    done = {each.stem for each in (part / ".done").glob("*.parquet") if ".pending" not in each.name}
    return [each.name for each in parts(part) if any(each.name.startswith(name) for name in done)]


@pytest.mark.slow
def test_shards_are_those_of_the_local_engine(folder):
    """To the byte: the same files, the same index."""
    rows = (folder / "texts.jsonl").read_text().splitlines()[:50]
    texts = Texts(tuple(json.loads(row)["text"] for row in rows), "the first fifty")
    recipe = RecorderRecipe(f"{folder}/llama", keep=("hidden", "k_pre", "v"))
    record_with_ray(recipe, texts, folder / "far.part", TWO, shard=16)
    lm = kvlens.load(f"{folder}/llama")
    kvlens.record_shards(lm, texts, folder / "near", keep=recipe.keep, shard=16)
    near = {path.name: path.read_bytes() for path in (folder / "near").iterdir()}
    far = {path.name: path.read_bytes() for path in (folder / "far.part" / ".trace").iterdir()}
    assert near.keys() == far.keys()
    assert [name for name in near if near[name] != far[name]] == []


@pytest.mark.slow
def test_a_profile_from_actors_is_the_local_one(folder, capsys):
    save_texts(folder / "calibration.txt", 80)
    line = f"profile {folder}/llama --texts {folder}/calibration.txt --draws 0"
    assert main([*line.split(), "-o", f"{folder}/near-run"]) == 0
    ray = f"{line} --engine ray --actors 2 --actor-cpus 1"
    assert main([*ray.split(), "-o", f"{folder}/far-run"]) == 0
    near, far = (kvlens.open(folder / name / "profile.json") for name in ("near-run", "far-run"))
    for estimator in near.estimates:
        np.testing.assert_allclose(near.values(estimator), far.values(estimator), rtol=1e-5)
    assert near.sink == far.sink
    assert not list(folder.glob("far-run*.part"))


@pytest.mark.slow
def test_what_an_actor_refuses_is_one_line(folder, capsys):
    line = f"embed {folder}/llama --engine ray -i {folder}/texts.jsonl -o {folder}/none.parquet"
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert "kv_embedding needs layers" in err
    assert err.count("\n") == 1
    strict = f"{line} --layers 1,2 --max-length 12 --strict"
    assert main(strict.split()) == 2
    err = capsys.readouterr().err
    assert "token" in err
    assert err.count("\n") == 1
    assert not (folder / "none.parquet").exists()
    assert not (folder / "none.parquet.part").exists()
