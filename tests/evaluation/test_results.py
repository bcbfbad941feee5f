"""The pair of mteb's result and our items: damaged, mixed or half, it is made again and said so."""

import json
import resource
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kvlens import InputError
from kvlens.evaluation.run import evaluate
from kvlens.evaluation.tasks import find_tasks
from kvlens.store.notices import Notice

pytest.importorskip("mteb")


@pytest.fixture(scope="module")
def scored(lm, make_data, tmp_path_factory):
    """``scored(folder)``: the table of one method on one task, its vectors kept."""
    home = tmp_path_factory.mktemp("scored")
    data = make_data(home / "data")

    def run(folder):
        tasks = find_tasks(["STSBenchmark"], data)
        return evaluate(lm, tasks, folder, ["mean"], cache=cache)

    from kvlens.embedding.cache import EmbeddingCache

    cache = EmbeddingCache(home / "cache")
    run.table = run(home / "run")
    run.folder = home / "run"
    return run


@pytest.fixture
def finished(scored, tmp_path):
    """A copy of the finished run."""
    return Path(shutil.copytree(scored.folder, tmp_path / "run"))


def pair(folder):
    (items,) = folder.rglob("*.items.safetensors")
    return items.with_name("STSBenchmark.json"), items


def edited(change):
    """A damage of mteb's result that stays JSON."""

    def damage(folder):
        file, _ = pair(folder)
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content, indent=2))

    return damage


def first_score(content):
    return content["scores"]["test"][0]


def cut(which):
    return lambda folder: pair(folder)[which].write_bytes(pair(folder)[which].read_bytes()[:-40])


def filled(which, content):
    return lambda folder: pair(folder)[which].write_bytes(content)


def with_items(change):
    """A damage of the items that stays a container, its hashes as they were or gone."""

    def damage(folder):
        _, file = pair(folder)
        items = load_file(file)
        change(items)
        save_file(items, file)

    return damage


def a_low_bit(folder):
    _, file = pair(folder)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "result cut": cut(0),
    "items cut": cut(1),
    "result empty": filled(0, b""),
    "items empty": filled(1, b""),
    "result null": filled(0, b"null"),
    "result deep": filled(0, b"[" * 100_000),
    "result not UTF-8": filled(0, b"\xff\xfe"),
    "score a word": edited(lambda c: first_score(c).update(main_score="high")),
    "score absent": edited(lambda c: first_score(c).pop("main_score")),
    "score another": edited(lambda c: first_score(c).update(main_score=0.5)),
    "score huge": edited(lambda c: first_score(c).update(main_score=10**400)),
    "a time": edited(lambda c: c.update(evaluation_time=99)),
    "an old mteb": edited(lambda c: c.update(mteb_version="1.0.0")),
    "scores a list": edited(lambda c: c.update(scores=[])),
    "a low bit of the items": a_low_bit,
    "items one-dimensional": with_items(lambda x: x.update({"test/default": np.zeros(3)})),
    "items float32": with_items(lambda x: x.update({"test/default": np.zeros((2, 3), "f4")})),
    "items of one row": with_items(lambda x: x.update({"test/default": np.zeros((1, 3))})),
    "items elsewhere": with_items(lambda x: x.update({"x": x.pop("test/default")})),
    "items NaN": with_items(lambda x: x.update({"test/default": np.full((2, 60), np.nan)})),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_pair_is_computed_again(scored, finished, name):
    DAMAGES[name](finished)
    with pytest.warns(Notice, match=r"STSBenchmark\.json is damaged: it is computed again"):
        assert scored(finished) == scored.table
    assert found_again(scored, finished) == scored.table


def found_again(scored, folder):
    """The table, nothing computed and nothing to say."""
    _, items = pair(folder)
    before = items.stat().st_mtime_ns
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        table = scored(folder)
    assert items.stat().st_mtime_ns == before
    return table


def test_a_pair_of_two_runs_is_not_used(scored, finished, tmp_path):
    result, items = pair(finished)
    scored(tmp_path / "other")
    other, _ = pair(tmp_path / "other")
    result.write_bytes(other.read_bytes())  # killed after mteb's result, before the items
    with pytest.warns(Notice, match="is damaged: it is computed again"):
        assert scored(finished) == scored.table
    items.unlink()
    assert scored(finished) == scored.table
    assert found_again(scored, finished) == scored.table


def test_a_pair_of_version_0_1_0_without_hashes_is_used(scored, finished):
    _, items = pair(finished)
    save_file(load_file(items), items)
    assert found_again(scored, finished) == scored.table


def test_results_of_other_data_are_stale_and_not_damaged(scored, finished):
    result, items = pair(finished)
    content = json.loads(result.read_text())
    result.write_text(json.dumps({**content, "dataset_revision": "another"}))
    save_file(load_file(items), items)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Notice)
        assert scored(finished) == scored.table


@pytest.mark.parametrize("content", [b"\xff\n", b"[]\n", b"{}\n", b'{"task": "x"\n', b"3\n"])
def test_damaged_settings_of_mteb_are_begun_anew(scored, finished, content):
    result, items = pair(finished)
    items.unlink()
    settings = result.with_name("run_settings.jsonl")
    settings.write_bytes(content)
    with pytest.warns(Notice, match="run_settings.jsonl is damaged: it is begun anew"):
        assert scored(finished) == scored.table
    (line,) = settings.read_text().splitlines()
    assert json.loads(line)["task"] == "STSBenchmark"


def test_settings_of_other_tasks_stay(scored, finished):
    result, items = pair(finished)
    items.unlink()
    settings = result.with_name("run_settings.jsonl")
    settings.write_text('{"task": "Other", "splits": ["test"]}\n' + settings.read_text())
    scored(finished)
    tasks = [json.loads(line)["task"] for line in settings.read_text().splitlines()]
    assert tasks == ["Other", "STSBenchmark"]


def test_nothing_is_left_beside_the_results(scored):
    names = {path.name for path in scored.folder.rglob("*") if path.is_file()}
    tables = {"scores.json", "scores.csv", "scores.md"}
    of_mteb = {"STSBenchmark.json", "model_meta.json", "run_settings.jsonl"}
    assert names == tables | of_mteb | {"STSBenchmark.items.safetensors"}
    assert not list(scored.folder.rglob(".*"))


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(bytes)``: an empty folder with no more room than that."""
    places = []

    def mounted(n_bytes, *options):
        place = tmp_path / f"disk-{len(places)}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={n_bytes}", *options]), "none"]
        try:
            done = subprocess.run([*command, str(place)], capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no mount")
        if done.returncode:
            pytest.skip(f"no disk of our own: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mounted
    for place in places:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("n_bytes", range(4096, 40960, 8192))
def test_a_full_disk_is_one_line_and_nothing_is_lost(scored, small_disk, n_bytes):
    disk = small_disk(2**20)
    folder = disk / "run"
    shutil.copytree(scored.folder, folder)
    result, items = pair(folder)
    items.unlink()  # so that it is computed again, over mteb's old result
    old = result.read_bytes()
    used = sum(-(-file.stat().st_size // 4096) * 4096 for file in folder.rglob("*.*"))
    size = f"remount,size={used + n_bytes}"
    subprocess.run(["mount", "-o", size, str(disk)], check=True)
    try:
        table = scored(folder)
    except InputError as error:
        message = str(error)
        assert "No space left on device" in message
        assert "\n" not in message
        assert result.read_bytes() == old or json.loads(result.read_text())
        assert json.loads((folder / "scores.json").read_text())
    else:
        assert table == scored.table
    assert not list(folder.rglob(".*"))
    subprocess.run(["mount", "-o", "remount,size=1m", str(disk)], check=True)
    assert scored(folder) == scored.table


def test_files_that_may_not_grow_are_one_line(scored, tmp_path):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match=r"cannot write .*: File too large"):
            scored(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert scored(tmp_path / "run") == scored.table


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(scored, small_disk):
    disk = small_disk(4096, "ro")
    with pytest.raises(InputError, match=r"cannot write .*: no permission to write into"):
        scored(disk / "run")


@pytest.mark.parametrize("name", ["scores.json", "scores.csv", "scores.md"])
def test_a_table_that_cannot_be_written_is_refused_before_the_work(scored, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name} is a folder, not a file"):
        scored(tmp_path)
    assert not (tmp_path / "results").exists()
