"""`kvlens check`: its verdict is its exit code."""


def test_it_answers_with_its_exit_code(run, capsys):
    assert run("check @llama") == 0
    assert "passed: 5 texts" in capsys.readouterr().out
    assert run("check @llama --tolerance 1e-12") == 1
    assert "FAILED" in capsys.readouterr().out
