"""Settings: every command writes what it was told, and does it again from that file."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvlens
from kvlens.cli.settings import Settings, read_settings
from kvlens.store.errors import InputError

RECORD = "record @llama --texts @texts.txt --n 30"


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_command_writes_its_settings_and_repeats_them(place, run, capsys):
    assert run(f"{RECORD} --shard 20 --keep q -o @settings-a") == 0
    settings = place / "settings-a" / "record.toml"
    assert tomllib.loads(settings.read_text()) == {
        "record": {
            "MODEL": [f"{place}/llama"],
            "output": f"{place}/settings-a",
            "shard": 20,
            "keep": "q",
            "texts": f"{place}/texts.txt",
            "n": 30,
        }
    }
    assert run(f"--config {settings} record -o @settings-b") == 0
    again = files(place / "settings-b")
    first = files(place / "settings-a")
    assert again.keys() == first.keys()
    tensors = [name for name in first if name.endswith(".safetensors")]
    assert tensors
    assert all(again[name] == first[name] for name in tensors)
    capsys.readouterr()


@pytest.mark.slow
def test_a_result_from_a_file_records_the_whole_command_line(place, run, capsys):
    lines = ["[profile]", f'MODEL = ["{place}/gpt2"]', f'texts = "{place}/texts.txt"', "n = 70"]
    lines += ['prompt = "a b: {text}"', "strict = true", "save-trace = false", "draws = 0"]
    settings = place / "mine.toml"
    settings.write_text("\n".join(lines))
    assert run(f"--config {settings} -o @settings-c --n 60") == 0
    layers = kvlens.LayerSet.load(place / "settings-c" / "layers.json")
    assert layers.command == (
        f"kvlens profile {place}/gpt2 --draws=0 --output={place}/settings-c "
        f"--texts={place}/texts.txt '--prompt=a b: {{text}}' --n=60 --strict"
    )
    assert layers.profile.texts.n == 60  # what is typed goes before the file
    assert (place / "settings-c" / "profile.toml").is_file()
    capsys.readouterr()


def test_passwords_of_addresses_are_recorded_nowhere(place, run, capsys):
    from fsspec.implementations.memory import MemoryFileSystem

    address = "memory://secret/texts.txt"
    MemoryFileSystem().pipe("/secret/texts.txt?signature=hidden", b"one\ntwo\n")
    line = "embed @llama --method last_token -o @secret.npy"
    assert run(f"{line} --input={address}?signature=hidden") == 0
    written = {path.name: path.read_bytes() for path in place.glob("secret*")}
    assert address.encode() in written["secret.npy.toml"]
    assert not [name for name, content in written.items() if b"hidden" in content]
    capsys.readouterr()


def test_beside_a_file_of_vectors_without_what_is_of_the_run_alone(place, run, capsys):
    line = "embed @llama -i @texts.txt --method mean -o @settings.npy"
    assert run(line) == 0
    settings = place / "settings.npy.toml"
    first = settings.read_bytes()
    assert b"mean" in first
    assert run(f"{line} --overwrite") == 0
    assert settings.read_bytes() == first
    capsys.readouterr()


@pytest.mark.parametrize(
    ("text", "command", "problem"),
    [
        ("n = 3", "", "nothing but a table a command"),
        ("[record", "", "cannot read the settings"),
        ("[record]\n[profile]", "", "of several commands, record, profile: name one"),
        ("[profile]", "record", "has no [record], only profile"),
        ("[record]\nshards = 3", "", "no setting of record is called shards"),
        ("[record]\nshard = [1, 2]", "", "shard has to be a string, a number, true or false"),
    ],
)
def test_a_file_that_is_no_settings_is_refused_in_a_line(
    place, run, capsys, tmp_path, text, command, problem
):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    assert run(f"--config {file} {command}") == 2
    err = capsys.readouterr().err
    assert problem in err
    assert err.count("\n") == 1


def test_a_missing_file_is_refused(run, capsys):
    assert run("--config nowhere.toml") == 2
    assert "cannot read the settings nowhere.toml" in capsys.readouterr().err


def test_the_device_comes_from_the_environment(place, run, capsys, monkeypatch):
    monkeypatch.setenv("KVLENS_DEVICE", "nonsense")
    assert run(f"{RECORD} -o @settings-e") == 2
    assert "nonsense" in capsys.readouterr().err
    assert run(f"{RECORD} -o @settings-d --device cpu") == 0
    capsys.readouterr()


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12)
VALUES = st.one_of(
    WORDS,
    st.just(True),
    st.integers(-(10**6), 10**6).map(str),
    st.lists(WORDS, max_size=3).map(tuple),
)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z-]{0,9}", fullmatch=True), VALUES, max_size=5))
def test_a_file_is_read_as_it_was_written(tmp_path_factory, values):
    settings = Settings("profile", values)
    file = tmp_path_factory.mktemp("settings") / "profile.toml"
    file.write_text(settings.text, encoding="utf-8", newline="")
    assert read_settings(file, None) == settings


def test_several_commands_in_a_file(tmp_path):
    file = tmp_path / "both.toml"
    file.write_text("[profile]\nn = 3\n[embed]\nn = 4\n")
    assert read_settings(file, "embed").values == {"n": "4"}
    with pytest.raises(InputError, match="name one"):
        read_settings(file, None)
