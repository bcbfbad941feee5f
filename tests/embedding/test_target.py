"""Target: nothing of the user's is removed; a stopped run resumes to the same bytes, or not."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from embedding_cases import DUPLICATED, ENDINGS, files, output, stop_after, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from killed import RENAMES, killed_before
from zoo import TEXTS, tiny

import kvlens
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.file_run import embed_file
from kvlens.embedding.target import check_target
from kvlens.embedding.vectors import load_vectors
from kvlens.store.chunk_index import INDEX
from kvlens.store.errors import InputError
from kvlens.store.notices import Notice


@pytest.fixture
def stopped(encoder, rows, tmp_path):
    """A run that was stopped after two of its chunks."""
    seen = []

    def progress(done, total):
        seen.append(done)
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed_file(encoder, rows, tmp_path / "out.npy", chunk=2, progress=progress)
    assert len(list((tmp_path / "out.npy.part").glob("*.safetensors"))) in (1, 2)
    return tmp_path / "out.npy"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kind": "query"}, "kind"),
        ({"normalize": True}, "normalize"),
        ({"truncate_dim": 8}, "truncate_dim"),
        ({"chunk": 3}, "chunk"),
        ({"bias": 2.0}, "settings, encoder"),
        ({"batch_tokens": 99}, "batch_tokens"),
        ({"post": "center"}, "post"),
        ({"texts": [*DUPLICATED, "more"]}, "texts, rows"),
        ({"texts": DUPLICATED[::-1]}, "texts"),
    ],
)
def test_a_stopped_run_of_another_configuration_is_refused(encoder, rows, stopped, change, named):
    options = {
        "chunk": 2,
        **{k: v for k, v in change.items() if k in ("kind", "normalize", "truncate_dim", "chunk")},
    }
    of_encoder = {k: v for k, v in change.items() if k in ("bias", "batch_tokens")}
    changed = Encoder(encoder.lm, layers=(1, 2), **of_encoder)
    if "post" in change:
        changed.fit_post("center", TEXTS)
    if "texts" in change:
        write_jsonl(
            rows, [{"id": f"doc-{i}", "text": text} for i, text in enumerate(change["texts"])]
        )
    before = files(stopped.parent)
    with pytest.raises(
        InputError, match=rf"out.npy.part has a run with other {named}: give what"
    ) as error:
        embed_file(changed, rows, stopped, resume=True, **options)
    assert "\n" not in str(error.value)
    assert files(stopped.parent) == before
    with pytest.raises(
        InputError, match="`resume=True` continues it, `overwrite=True` starts again"
    ):
        embed_file(changed, rows, stopped, **options)
    assert files(stopped.parent) == before
    embed_file(changed, rows, stopped, overwrite=True, **options)
    embed_file(changed, rows, stopped.parent / "whole.npy", **options)
    assert output(stopped.parent, "out.npy") == output(stopped.parent, "whole.npy")


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_existing_target_is_kept_or_replaced_whole(encoder, rows, tmp_path, ending):
    target = tmp_path / f"out{ending}"
    embed_file(encoder, rows, target)
    before = files(tmp_path)
    for options in ({}, {"resume": True, "kind": "query"}):
        with pytest.raises(InputError, match="exists: give another `target`, or `overwrite=True`"):
            embed_file(encoder, rows, target, **options)
    with pytest.raises(KeyboardInterrupt):
        embed_file(
            encoder, rows, target, kind="query", chunk=1, overwrite=True, progress=stop_after(5)
        )
    kept = {path: data for path, data in files(tmp_path).items() if ".part" not in str(path)}
    assert kept == before
    with pytest.raises(InputError, match=r"exists: .*`resume=True` the stopped run beside it goes"):
        embed_file(encoder, rows, target, kind="query", chunk=1, resume=True)
    embed_file(encoder, rows, target, kind="query", chunk=1, overwrite=True, resume=True)
    assert load_vectors(target).info.kind == "query"
    assert set(files(tmp_path)) == set(before)


def test_nothing_of_the_users_is_removed_or_overwritten(encoder, rows, tmp_path):
    (tmp_path / "out.npy.part").mkdir()
    (tmp_path / "out.npy.part" / "mine.safetensors").write_text("precious")
    (tmp_path / "two.npy.json").write_text("precious")
    (tmp_path / "three.npy.part").write_text("precious")
    (tmp_path / "in.parquet").write_bytes(b"")
    (tmp_path / "four.npy").mkdir()
    before = files(tmp_path)
    for name, says, overwrite in (
        ("out.npy", "is in the way and was not left by a stopped run", True),
        ("two.npy", "two.npy.json exists", False),
        ("three.npy", "is in the way", True),
        ("four.npy", "four.npy is a folder, not a file", True),
    ):
        with pytest.raises(InputError, match=says):
            embed_file(encoder, rows, tmp_path / name, overwrite=overwrite)
    with pytest.raises(InputError, match="holds the texts themselves"):
        embed_file(encoder, tmp_path / "in.parquet", tmp_path / "in.parquet", overwrite=True)
    assert files(tmp_path) == before


def test_check_target_costs_no_model(tmp_path):
    assert check_target(tmp_path / "new" / "out.NPY") == tmp_path / "new" / "out.NPY"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    calls=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    chunk=st.integers(1, 4),
    ending=st.sampled_from(ENDINGS),
)
def test_a_run_stopped_anywhere_resumes_to_the_same_bytes(
    encoder, tmp_path_factory, calls, chunk, ending
):
    tmp_path = tmp_path_factory.mktemp("resume")
    texts = [*DUPLICATED, "too long " * 50]
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    assert embed_file(encoder, rows, tmp_path / f"whole{ending}", chunk=chunk).truncated == 1
    target = tmp_path / f"out{ending}"
    part = tmp_path / f"out{ending}.part"
    chunks = -(-len(set(texts)) // chunk)
    for n in calls:
        with pytest.raises(KeyboardInterrupt):
            embed_file(
                encoder, rows, target, chunk=chunk, resume=True, progress=stop_after(min(n, chunks))
            )
        assert not target.exists()
        assert not part.exists() or list(part.glob("*.safetensors"))
    embed_file(encoder, rows, target, chunk=chunk, resume=True)
    assert output(tmp_path, "out") == output(tmp_path, "whole")


@pytest.fixture(scope="module")
def whole(encoder, tmp_path_factory):
    """The bytes of runs that nobody stopped: of documents, and of queries, in each container."""
    folder = tmp_path_factory.mktemp("whole")
    numbered = enumerate(DUPLICATED)
    rows = write_jsonl(
        folder / "rows.jsonl", [{"id": f"doc-{i}", "text": text} for i, text in numbered]
    )
    for ending in ENDINGS:
        embed_file(encoder, rows, folder / f"document{ending}", chunk=3)
        embed_file(encoder, rows, folder / f"query{ending}", chunk=3, kind="query")
    return folder


def outcome(target):
    """Every file that has to do with a target: hidden ones, and folders' too."""
    folder = target.parent
    return {path: data for path, data in files(folder).items() if path.name != "rows.jsonl"}


def expected(whole, target, kind):
    names = [target.name, *([f"{target.name}.json"] if target.suffix == ".npy" else [])]
    return {Path(name): (whole / name.replace("out", kind, 1)).read_bytes() for name in names}


def passes_of(encoder, work):
    """How many forward passes `work` takes."""
    passes = []
    handle = encoder.lm.base.register_forward_pre_hook(lambda module, args: passes.append(1))
    try:
        work()
    finally:
        handle.remove()
    return len(passes)


def resumed(encoder, rows, target, **options):
    """Resume, nothing being said."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        return embed_file(encoder, rows, target, chunk=3, resume=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".npy", ".parquet"])
def test_killed_before_any_rename_it_resumes(encoder, rows, whole, tmp_path, ending):
    n = 0
    killed = True
    while killed:
        n += 1
        target = tmp_path / str(n) / f"out{ending}"
        killed = killed_before(n, partial(embed_file, encoder, rows, target, chunk=3), RENAMES)
        result = resumed(encoder, rows, target)
        assert result.rows == len(DUPLICATED)
        assert outcome(target) == expected(whole, target, "document")
        assert passes_of(encoder, partial(resumed, encoder, rows, target)) == 0
    # What was there before, run.json, the index, three chunks, the target, the part's removal.
    assert n == (10 if ending == ".npy" else 9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "overwrite"),
    [
        (".npy", True),
        pytest.param(".npy", False, marks=pytest.mark.torture),
        pytest.param(".parquet", False, marks=pytest.mark.torture),
    ],
)
def test_killed_before_any_change_it_resumes(encoder, rows, whole, tmp_path, ending, overwrite):
    n = 0
    killed = True
    while killed:
        n += 1
        target = tmp_path / str(n) / f"out{ending}"
        target.parent.mkdir()
        if overwrite:
            for name, data in expected(whole, target, "query").items():
                (target.parent / name).write_bytes(data)
        run = partial(embed_file, encoder, rows, target, chunk=3, overwrite=overwrite)
        killed = killed_before(n, run)
        resumed(encoder, rows, target, overwrite=overwrite)
        assert outcome(target) == expected(whole, target, "document")
        assert not list(target.parent.glob(".*"))
    assert n > 40


def test_between_the_names_of_a_pair(encoder, rows, whole, tmp_path):
    """Killed while it replaces a pair: refused by those who load it, completed by `resume`."""
    target = tmp_path / "out.npy"
    for name, data in expected(whole, target, "query").items():
        (tmp_path / name).write_bytes(data)
    # As above: the seventh is the file of ids, the eighth the array.
    run = partial(embed_file, encoder, rows, target, chunk=3)
    assert killed_before(8, partial(run, overwrite=True), RENAMES)
    with pytest.raises(InputError, match=r"out.npy with out.npy.json is not readable .* hash"):
        load_vectors(target)
    with pytest.raises(InputError, match="has a stopped run: `resume=True` continues it"):
        run()
    with pytest.raises(InputError, match=r"exists: give another"):
        run(resume=True, kind="query")
    assert passes_of(encoder, lambda: run(resume=True)) == 0
    assert outcome(target) == expected(whole, target, "document")


def test_a_complete_run_is_looked_at_and_said(encoder, rows, tmp_path):
    for ending in ENDINGS:
        target = tmp_path / f"out{ending}"
        first = embed_file(encoder, rows, target)
        before = files(tmp_path)
        resume = partial(embed_file, encoder, rows, target, resume=True)
        assert passes_of(encoder, resume) == 0
        again = resume()
        assert again == replace(first, seconds=again.seconds, complete=True)
        assert not first.complete
        assert files(tmp_path) == before
        data = bytearray(target.read_bytes())
        data[data.index(np.load(tmp_path / "out.npy")[2].tobytes())] ^= 1
        target.write_bytes(data)
        with pytest.raises(InputError, match=r"is not readable as kvlens vectors: .*again"):
            resume()
        again = embed_file(encoder, rows, target, resume=True, overwrite=True)
        assert not again.complete
        assert files(tmp_path) == before


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "x"}', "[" * 100_000, b"\xff"])
def test_a_damaged_run_file_is_refused_in_a_line(encoder, rows, stopped, content):
    run = stopped.parent / "out.npy.part" / "run.json"
    run.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=r"`overwrite=True` .*start") as error:
        embed_file(encoder, rows, stopped, chunk=2, resume=True)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(str(run))
    embed_file(encoder, rows, stopped, chunk=2, overwrite=True)
    assert load_vectors(stopped).info.rows == len(DUPLICATED)


def test_a_damaged_chunk_is_computed_again_and_said(encoder, rows, stopped):
    (chunk, *_) = sorted((stopped.parent / "out.npy.part").glob("*.safetensors"))
    data = bytearray(chunk.read_bytes())
    data[-9] ^= 1  # of a vector: the safetensors file is as good as before
    chunk.write_bytes(data)
    with pytest.warns(Notice, match=rf"1 of \d chunks in .*{chunk.name} is damaged"):
        embed_file(encoder, rows, stopped, chunk=2, resume=True)
    embed_file(encoder, rows, stopped.parent / "whole.npy", chunk=2)
    assert output(stopped.parent, "out.npy") == output(stopped.parent, "whole.npy")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_is_said_in_a_line_and_loses_nothing(encoder, rows, whole, tmp_path, ending):
    """Room for a little more each time, until it is enough."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    target = disk / f"out{ending}"
    refusals = []
    try:
        while not target.exists():
            pages = 2 + len(refusals)
            resize = ["mount", "-o", f"remount,size={4 * pages}k", str(disk)]
            subprocess.run(resize, check=True, capture_output=True)
            try:
                resumed(encoder, rows, target)
            except InputError as error:
                refusals.append(str(error))
        assert all(line.startswith(f"cannot write {target}") for line in refusals)
        assert not any("\n" in line for line in refusals)
        assert len(refusals) >= 3
        assert outcome(target) == expected(whole, target, "document")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_that_may_not_grow_is_said_in_a_line(encoder, rows, whole, tmp_path):
    """As on a full disk, for those who may not mount one."""
    target = tmp_path / "out.npy"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    refusals = []
    while not target.exists():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 + 200 * len(refusals), before[1]))
        try:
            resumed(encoder, rows, target)
        except InputError as error:
            refusals.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert all(line.startswith(f"cannot write {target}") for line in refusals)
    assert {line.rpartition(": ")[2] for line in refusals} <= {"File too large", "write"}
    assert len(refusals) > 5
    assert outcome(target) == expected(whole, target, "document")


SCRIPT = textwrap.dedent(
    """
    import signal, sys, time
    import kvlens
    from kvlens.embedding.file_run import embed_file
    # A shell's background job would ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = sys.argv[1]
    source, target = f"{folder}/rows.jsonl", f"{folder}/out.npy"
    encoder = kvlens.Encoder(kvlens.load(f"{folder}/model"), layers=[1, 2])
    slow = lambda done, total: time.sleep(0.01)
    for resume in (False, True):
        try:
            embed_file(encoder, source, target, chunk=2, resume=resume, progress=slow)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
)


def finished(part, process=None, at_least=0):
    """The finished chunks, once there are so many of them (or the process has ended)."""
    deadline = time.monotonic() + 60
    while True:
        index = part / INDEX
        lines = index.read_text().splitlines() if index.exists() else []
        names = [json.loads(line)["file"] for line in lines if line.endswith("}")]
        chunks = {name: (part / name).read_bytes() for name in names}
        if len(chunks) >= at_least or process.poll() is not None or time.monotonic() > deadline:
            return chunks
        time.sleep(0.005)


@pytest.mark.slow
def test_an_interrupted_and_killed_process_resumes_to_the_same_bytes(tmp_path):
    lm = tiny("llama")
    lm.hf.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    rng = random.Random(0)
    texts = ["".join(rng.choices("abcdefgh ", k=rng.randint(1, 60))) + str(i) for i in range(300)]
    rows = write_jsonl(
        tmp_path / "rows.jsonl", [{"id": i, "text": text} for i, text in enumerate(texts)]
    )
    part = tmp_path / "out.npy.part"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        finished(part, process, 20)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n", process.stderr.read()
        assert not (tmp_path / "out.npy").exists()
        first = finished(part)
        finished(part, process, len(first) + 20)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (-signal.SIGTERM, "")
    second = finished(part)
    assert first.items() < second.items()
    assert 20 <= len(first) < len(second) < 150
    assert not (tmp_path / "out.npy").exists()

    encoder = Encoder(kvlens.load(tmp_path / "model"), layers=[1, 2])
    seen = []
    with pytest.raises(InputError, match="has a stopped run"):
        embed_file(encoder, rows, tmp_path / "out.npy", chunk=2)
    encoder.encode(["x"])  # what is found out about a model takes a pass of its own
    passes = []
    handle = encoder.lm.base.register_forward_pre_hook(lambda module, args: passes.append(1))
    embed_file(
        encoder,
        rows,
        tmp_path / "out.npy",
        chunk=2,
        resume=True,
        progress=lambda *done: seen.append(done),
    )
    handle.remove()
    assert len(passes) == 150 - len(second)
    assert seen[-1] == (300, 300)
    embed_file(encoder, rows, tmp_path / "whole.npy", chunk=2)
    assert output(tmp_path, "out.npy") == output(tmp_path, "whole.npy")
    assert set(output(tmp_path, "out.npy")) == {"", ".json"}
    loaded = load_vectors(tmp_path / "out.npy")
    assert loaded.ids == tuple(str(i) for i in range(300))
    np.testing.assert_allclose(loaded.vectors, encoder.encode(texts), atol=2e-6)
