"""A task's data: cut, loaded whole again, and unfolded from mteb's old layout."""

import pytest

from kvlens.evaluation.run import evaluate
from kvlens.evaluation.tasks import find_tasks

pytest.importorskip("mteb")
from mteb.mocks.mock_tasks import MockPairClassificationTask


@pytest.mark.slow
def test_limit_is_marked_everywhere(lm, tmp_path, data, cache):
    tasks = find_tasks(["STSBenchmark", "Banking77Classification", "Cranfield"], data)
    run = tmp_path / "run"
    table = evaluate(lm, tasks, run, ["mean"], limit=3, cache=cache)
    assert [(score.n, score.limited) for score in table.scores] == [(3, True)] * 3
    assert "NOT COMPARABLE" in (run / "scores-limit-3.md").read_text()
    assert not (run / "scores.json").exists()
    assert all("limit-3" in str(path) for path in run.rglob("*.json"))
    judged = 9
    others = 30  # 10 a query
    assert len(tasks[2].dataset["default"]["test"]["corpus"]) == judged + others
    # The same task objects, whole again.
    whole = evaluate(lm, tasks, run, ["mean"], cache=cache)
    assert [score.n for score in whole.scores] == [60, 30, 12]


def test_pairs_in_one_row_are_unfolded(lm, tmp_path, cache):
    plain = MockPairClassificationTask()
    plain.load_data()
    (split,) = plain.eval_splits
    row = plain.dataset[split].to_dict()

    def load_nested(**options):
        nested.dataset = {split: [row]}
        nested.data_loaded = True

    nested = MockPairClassificationTask()
    nested.load_data = load_nested
    (expected,) = evaluate(lm, [plain], tmp_path / "plain", ["mean"], cache=cache).scores
    (score,) = evaluate(lm, [nested], tmp_path / "nested", ["mean"], cache=cache).scores
    assert (score.value, score.n) == (expected.value, expected.n)
