"""Reading sentence pairs: from every table file, and what is refused."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from table_files import one_line, write_csv, write_table

from kvlens import InputError
from kvlens.texts.pairs import read_pairs

KINDS = ["a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.tsv", "a.parquet"]


def test_bad_pairs(tmp_path, pairs_file):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n{"sentence1": "a"}\n')
    with pytest.raises(InputError, match="line 2: needs sentence1, sentence2 and score"):
        read_pairs(bad)
    for row in (
        '{"sentence1": "a", "sentence2": null, "score": 1}',
        '{"sentence1": "a", "sentence2": "b", "score": NaN}',
    ):
        bad.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n' + row)
        with pytest.raises(InputError, match="line 2: needs sentence1, sentence2 and score"):
            read_pairs(bad)
    bad.write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n' * 12)
    with pytest.raises(InputError, match="all 12 scores are equal"):
        read_pairs(bad)
    with pytest.raises(InputError, match="has 5 pairs, at least 10"):
        read_pairs(pairs_file, 5)
    with pytest.raises(InputError, match="cannot read"):
        read_pairs(tmp_path / "absent")


def scored(n):
    return [{"sentence1": f"a {i}", "sentence2": f'b, "{i}"\n', "score": i / 2} for i in range(n)]


@pytest.mark.parametrize("name", KINDS)
def test_pairs_come_from_every_table_file(tmp_path, name):
    write_table(tmp_path / name, scored(40))
    pairs = read_pairs(tmp_path / name)
    assert pairs.first == tuple(f"a {i}" for i in range(40))
    assert pairs.second == tuple(f'b, "{i}"\n' for i in range(40))
    assert pairs.scores.tolist() == [i / 2 for i in range(40)]
    assert read_pairs(tmp_path / name, 15).scores.tolist() == [i * 40 // 15 / 2 for i in range(15)]


@pytest.mark.parametrize(
    ("name", "place"),
    # Each row but the header takes two lines in .csv and .tsv, since a sentence ends in one.
    [("a.jsonl", "line 12"), ("a.csv", "line 25"), ("a.tsv", "line 25"), ("a.parquet", "row 12")],
)
def test_a_bad_pair_is_named_by_its_place(tmp_path, name, place):
    rows = scored(20)
    rows[11]["score"] = float("nan")
    write_table(tmp_path / name, rows)
    with pytest.raises(
        InputError, match=rf"{name}, {place}: needs sentence1, sentence2 and score \(the row has"
    ) as error:
        read_pairs(tmp_path / name)
    one_line(error)


@pytest.mark.parametrize("name", KINDS[2:])
def test_pairs_without_a_score_are_refused(tmp_path, name):
    pq.write_table(pa.table({"sentence1": ["a"], "sentence2": ["b"]}), tmp_path / "a.parquet")
    if "parquet" not in name:
        write_csv(
            tmp_path / name,
            [("sentence1", "sentence2"), ("a", "b")],
            "\t" if "tsv" in name else ",",
            gzip.open if ".gz" in name else open,
        )
    with pytest.raises(
        InputError, match=r"cannot read the pairs: .*no column 'score'; it has: 'sentence1'"
    ):
        read_pairs(tmp_path / name)


@pytest.mark.parametrize("score", ["1" + "0" * 400, "true", "1e999", '"high"', "[1]"])
def test_scores_that_are_no_finite_number(tmp_path, score):
    row = '{"sentence1": "a", "sentence2": "b", "score": SCORE}'
    (tmp_path / "a.jsonl").write_text(row.replace("SCORE", score))
    with pytest.raises(InputError, match=r"line 1: needs .* not a finite number") as error:
        read_pairs(tmp_path / "a.jsonl")
    assert len(one_line(error)) < 300


def test_no_pairs_at_all_are_refused(pairs_file):
    with pytest.raises(InputError, match="`n` is 0; it must be at least 1"):
        read_pairs(pairs_file, 0)
