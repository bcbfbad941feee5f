"""The kill list: every command that writes, on a small model, with what stands there before."""

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

PROFILE = "profile model --texts texts.txt --estimators twonn"


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes:
        name: of the case.
        line: the command line, without ``kvlens``.
        before: lines that are run before, undisturbed.
        files: files of the user's that are there before, among what the command writes.
        whole: folders that are there as before or all new, never in between.
    """

    name: str
    line: str
    before: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()

    def arguments(self, *flags: str) -> list[str]:
        """The command line, with further flags."""
        return [*shlex.split(self.line), *flags]


OLD_RUN = (
    f"{PROFILE} -o run --n 55",
    "sweep model --pairs pairs.jsonl -o run/sweep.json --widths 1 --profiles run/profile.json",
    "evaluate model --tasks STSBenchmark --data-dir data --methods mean -o run",
)
OLD_VECTORS = "embed model --input texts.txt --method mean -o"
EMBED = "embed model --input texts.txt --layers 1,2 --chunk 30 -o"
EVALUATE = "evaluate model --data-dir data --layers 1 -o run"
RECORD = "record model --texts texts.txt --shard 25"
SWEEP = "sweep model --pairs pairs.jsonl --batch-tokens 512 -o sweep.json"

COMMANDS = (
    Command("profile", f"{PROFILE} -o run", whole=("run",)),
    Command(
        "profile-overwrite",
        f"{PROFILE} -o run --overwrite",
        before=OLD_RUN,
        files=("run/notes.txt", "run/results/mine.txt"),
        whole=("run",),
    ),
    Command("profile-trace", f"{PROFILE} -o run --save-trace", whole=("run",)),
    Command("record", f"{RECORD} -o t", whole=("t",)),
    Command(
        "record-overwrite",
        f"{RECORD} --keep v -o t --overwrite",
        before=(f"{RECORD} -o t",),
        files=("t/notes.txt",),
        whole=("t",),
    ),
    Command("attend-text", "attend model --layers 1 --text abc -o run", whole=("run",)),
    Command(
        "attend-overwrite",
        "attend model --layers 1 --texts texts.txt --n 10 -o run --overwrite",
        before=("attend model --layers 1 --text abc -o run",),
        files=("run/notes.txt",),
        whole=("run",),
    ),
    Command(
        "lens",
        "lens model --layers 1 --texts texts.txt --methods mean -o run",
        whole=("run",),
    ),
    Command(
        "lens-words",
        "lens model --words --texts texts.txt --n-words 5 -o run",
        whole=("run",),
    ),
    Command("report-alone", "report run --no-model", before=OLD_RUN),
    Command("report", "report run --texts texts.txt --n 20", before=OLD_RUN[:1]),
    Command("figures", "figures run -o fig", before=OLD_RUN[:2], whole=("fig",)),
    Command(
        "figures-overwrite",
        "figures run -o fig --width single --format svg --overwrite",
        before=(*OLD_RUN[:1], "figures run -o fig"),
        files=("fig/notes.txt",),
        whole=("fig",),
    ),
    Command(
        "compare",
        "compare run run2 -o cmp",
        before=(*OLD_RUN[:1], f"{PROFILE} -o run2 --n 52"),
        whole=("cmp",),
    ),
    Command("sweep", f"{SWEEP} --widths 1"),
    Command("sweep-resume", f"{SWEEP} --widths 1,2 --resume", before=(f"{SWEEP} --widths 1",)),
    Command(
        "sweep-overwrite",
        f"{SWEEP} --widths 2 --layers 0,3 --overwrite",
        before=(f"{SWEEP} --widths 1 --layers 0,2",),
    ),
    Command("sweep-readout", "sweep model --what readout --pairs pairs.jsonl -o run/readout.json"),
    Command(
        "choose",
        "choose model --texts texts.txt --n 40 --biases 1 --posts none --finalists 2 "
        "-o run/decision.json",
    ),
    Command("check", "check model -o check.json"),
    Command(
        "check-overwrite",
        "check model -o check.json --tolerance 0.1 --overwrite",
        before=("check model -o check.json",),
    ),
    Command("evaluate", f"{EVALUATE} --methods mean --tasks STSBenchmark,Cranfield"),
    Command(
        "evaluate-more",
        f"{EVALUATE} --methods mean,prompt_eol --tasks STSBenchmark",
        before=(f"{EVALUATE} --methods mean --tasks STSBenchmark",),
    ),
    Command("evaluate-limit", f"{EVALUATE} --methods mean --tasks Cranfield --limit 10"),
    Command("embed-npy", f"{EMBED} v.npy"),
    Command("embed-safetensors", f"{EMBED} v.safetensors"),
    Command("embed-parquet", f"{EMBED} v.parquet"),
    Command("embed-npy-overwrite", f"{EMBED} v.npy --overwrite", before=(f"{OLD_VECTORS} v.npy",)),
    Command(
        "embed-parquet-overwrite",
        f"{EMBED} v.parquet --overwrite",
        before=(f"{OLD_VECTORS} v.parquet",),
    ),
    Command(
        "embed-fit-post",
        "embed model --input texts.txt --layers run/layers.json --max-length 100 "
        "--fit-post center -o v.safetensors",
        before=OLD_RUN[:1],
    ),
    Command("embed-gguf", "embed model.gguf --input texts.txt --method mean -o v.safetensors"),
)


def make_shared(folder: Path) -> None:
    """The small model, and the files that every command reads."""
    from evaluation.conftest import write_data
    from torture.tiny_gguf import write_gguf
    from zoo import tiny

    from kvlens.models.quiet import quietly
    from kvlens.texts.wikipedia import calibration_texts

    calibration_texts(1)  # fetched and parsed once, in the user's own cache
    lm = tiny("llama")
    with quietly():
        lm.hf.save_pretrained(folder / "model")
        lm.tokenizer.save_pretrained(folder / "model")
    write_gguf(lm, folder / "model.gguf")
    texts = [f"the number {i} is {i * i}, " + "and so on " * (i % 5) for i in range(60)]
    (folder / "texts.txt").write_text("\n".join(texts))
    pairs = [
        {"sentence1": texts[i], "sentence2": texts[7 * i % 60], "score": i % 5} for i in range(24)
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    write_data(folder / "data")


def link_shared(shared: Path, work: Path) -> None:
    """Give a command's folder what it reads, under short names."""
    for path in shared.iterdir():
        os.symlink(path, work / path.name)
