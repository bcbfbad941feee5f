"""What needs no engine: pools, staged chunks, written parts, and one line where one is missing."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_cases import LAYERS, save_texts, some_texts

import kvlens
from kvlens.cli import main
from kvlens.embedding.chunks import chunks, longest_first
from kvlens.embedding.file_options import FileRun
from kvlens.embedding.file_run import info_of
from kvlens.embedding.parts import INDEX
from kvlens.engines.embedding_worker import EmbeddingWorker
from kvlens.engines.part_files import check_parts_target, put_in_place, tidy, written_in
from kvlens.engines.pool import Pool
from kvlens.engines.recipe import EncoderRecipe, RecorderRecipe
from kvlens.engines.recording_worker import RecordingWorker, index_here
from kvlens.engines.staging import stage
from kvlens.store.errors import InputError
from kvlens.texts.scan import scan
from kvlens.texts.text_file import TextFile
from kvlens.texts.texts import Texts

N = 60


@pytest.fixture
def texts(tmp_path):
    return TextFile.at(save_texts(tmp_path / "texts.jsonl", N), ids=True, empty=True)


@pytest.mark.parametrize(
    ("given", "resources", "filled"),
    [
        (Pool(), {"CPU": 11}, Pool(1, 8, 0)),
        (Pool(actors=3), {"CPU": 11}, Pool(3, 2, 0)),
        (Pool(actors=3), {"CPU": 2}, Pool(3, 1, 0)),
        (Pool(), {"CPU": 16, "GPU": 4}, Pool(4, 1, 1)),
        (Pool(gpus=0.5), {"CPU": 16, "GPU": 2}, Pool(4, 1, 0.5)),
        (Pool(actors=2, cpus=3, gpus=0), {"CPU": 1, "GPU": 1}, Pool(2, 3, 0)),
    ],
)
def test_a_pool_fills_in_what_there_is(given, resources, filled):
    assert given.on(resources) == filled


def test_staged_chunks_are_those_of_the_local_engine(texts, tmp_path):
    """Each distinct text of a window in one chunk, in the same order, all its rows beside it."""
    run = FileRun(chunk=8, window=25)
    staged = stage(texts, scan(texts).info.sha256, tmp_path / "staged", run)
    tables = [chunk.read() for chunk in staged]
    assert [table.num_rows for table in tables] == [chunk.rows for chunk in staged]
    given = some_texts(N)
    windows = [given[first : first + 25] for first in range(0, N, 25)]
    expected = [part.texts for each in windows for part in chunks(longest_first(each), 8)]
    assert [tuple(dict.fromkeys(table["text"].to_pylist())) for table in tables] == expected
    rows = pa.concat_tables(tables).sort_by("row")
    assert rows["row"].to_pylist() == list(range(N))
    assert rows["text"].to_pylist() == given
    assert rows["id"].to_pylist() == [f"doc-{i}" for i in range(N)]


def test_what_an_engine_leaves_becomes_vectors_each_row_once(folder, texts, tmp_path):
    """A torn part and one that was written twice are left out; the rest is the local result."""
    recipe = EncoderRecipe(f"{folder}/llama", layers=LAYERS)
    run = FileRun(chunk=8)
    first = scan(texts)
    worker = EmbeddingWorker(recipe, first, run)
    target = tmp_path / "made.parquet"
    part = tmp_path / "made.parquet.part"
    part.mkdir()
    for number, chunk in enumerate(stage(texts, scan(texts).info.sha256, tmp_path / "staged", run)):
        pq.write_table(worker(chunk.read()), part / f"{number}.parquet")
    before = written_in(part, N)
    whole = (part / "1.parquet").read_bytes()
    (part / "2-again.parquet").write_bytes((part / "2.parquet").read_bytes())
    (part / "1.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"rows are in no part of .*made\.parquet\.part"):
        put_in_place(written_in(part, N), worker.info, part, target)
    (part / "1-again.parquet").write_bytes(whole)
    written = written_in(part, N)
    assert (before.n_missing, written.n_missing) == (0, 0)
    assert "1.parquet" not in [each.file for each in written.parts]
    put_in_place(written, worker.info, part, target)
    tidy(target)
    encoder = recipe.encoder()
    kvlens.embed_file(encoder, texts.file.path, tmp_path / "local.npy", chunk=8)
    local, made = kvlens.open(tmp_path / "local.npy"), kvlens.open(target)
    assert made.ids == local.ids
    np.testing.assert_array_equal(made.vectors, local.vectors)
    assert made.info.facts == local.info.facts == info_of(encoder, first, run).facts
    assert not part.exists()
    with pytest.raises(InputError, match="exists: give another `target`"):
        check_parts_target(target, resume=False, overwrite=False)


def test_truncated_texts_are_counted_once_each(folder, tmp_path):
    file = tmp_path / "long.jsonl"
    save_texts(file, 20)
    texts = TextFile.at(file, ids=True, empty=True)
    recipe = EncoderRecipe(f"{folder}/llama", method="mean", limits={"max_length": 12})
    run = FileRun(chunk=4)
    worker = EmbeddingWorker(recipe, scan(texts), run)
    part = tmp_path / "parts"
    part.mkdir()
    for number, chunk in enumerate(stage(texts, scan(texts).info.sha256, tmp_path / "staged", run)):
        pq.write_table(worker(chunk.read()), part / f"{number}.parquet")
    result = kvlens.embed_file(recipe.encoder(), file, tmp_path / "local.npy", chunk=4)
    assert written_in(part, 20).truncated == result.truncated > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [("v.npy", "give `target` a name ending in .parquet"), ("there.parquet", "no folder of parts")],
)
def test_targets_that_cannot_be_parts_are_refused(tmp_path, name, message):
    (tmp_path / "there.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=message):
        check_parts_target(tmp_path / name, resume=False, overwrite=True)
    assert not (tmp_path / name / INDEX).exists()


def test_a_missing_engine_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    save_texts(tmp_path / "texts.txt", 80)
    texts = f"{tmp_path}/texts.txt"
    for line in (
        f"embed nowhere --engine ray -i {texts} -o {tmp_path}/v.parquet",
        f"profile nowhere --engine ray --texts {texts} -o {tmp_path}/run",
    ):
        assert main(line.split()) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert "--engine ray needs Ray: pip install 'kvlens[ray]'" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt"]


def test_a_post_processing_that_would_be_fitted_by_ray_is_refused_with_the_way_out(
    folder, tmp_path, capsys
):
    line = f"embed {folder}/llama -i {folder}/texts.jsonl -o {tmp_path}/v.parquet --method mean"
    assert main([*line.split(), "--engine", "ray", "--fit-post", "center"]) == 2
    said = capsys.readouterr().err
    assert "--fit-post goes with --engine local: fit it there" in said
    assert "name it here by --post" in said
    assert said.count("\n") == 1


def test_options_of_an_engine_need_it(tmp_path, capsys):
    line = f"embed nowhere -i {tmp_path}/x.txt -o {tmp_path}/v.npy --actors 2"
    assert main(line.split()) == 2
    assert "--actors is an option of --engine ray" in capsys.readouterr().err


def test_every_actor_records_in_the_batches_of_the_first(folder, tmp_path):
    recipe = RecorderRecipe(f"{folder}/llama")
    lines = Texts(tuple(some_texts(8)), "eight")
    first = index_here(recipe.of_batches(64), lines, 4)
    worker = RecordingWorker(recipe, lines, 4, tmp_path, first)
    assert first.batch_tokens == 64
    assert worker.recorder.limits.batch_tokens == 64
    other = RecorderRecipe(f"{folder}/llama", points="mean")
    with pytest.raises(InputError, match="points"):
        RecordingWorker(other, lines, 4, tmp_path, first)
