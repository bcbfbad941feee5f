"""Hostile model folders: nothing of them is run, fetched or read from outside.

Each trap is one way to make a loader do more than load. A folder with one or several traps is
refused in one line, or loads with the same numbers as without them. Everything runs in a process of
its own whose audit hook notes connections, processes, unpickling and files that are opened.

``python -m torture.hostile SEED N FOLDER`` is that process.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

LONGEST_LINE = 299
WATCHED = ("socket.connect", "socket.getaddrinfo", "os.system", "os.exec", "pickle.find_class")
NAMES = ("plain", "\x1b[2J\x1b]0;owned\x07", "<script>alert(1)</script>", "two\nlines")
TEMPLATE = "{{ cycler.__init__.__globals__.os.system('touch ran-by-jinja') }}"
CODE = """
import pathlib
pathlib.Path("ran-as-code").touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class EvilConfig(LlamaConfig):
    model_type = "evil"
class EvilModel(LlamaForCausalLM):
    config_class = EvilConfig
class EvilTokenizer(PreTrainedTokenizerFast):
    pass
def generate(model, *args, **kwargs):
    pass
"""
CODE_MAP = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
ELSEWHERE = {"AutoConfig": "evil/repo--evil.Config", "AutoModelForCausalLM": "evil/repo--evil.M"}


class _Pickle:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch ran-by-pickle",)


def change(file: Path, **entries: Any) -> None:
    """Set entries of a JSON file, which need not be there."""
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | entries))


Trap = Callable[[Path, Path], None]  # the model's folder, the folder outside


def config(**entries: Any) -> Trap:
    return lambda folder, outside: change(folder / "config.json", **entries)


def tokenizer_config(**entries: Any) -> Trap:
    return lambda folder, outside: change(folder / "tokenizer_config.json", **entries)


def code(file: str = "config.json", **entries: Any) -> Trap:
    """Entries that name code, and the code."""

    def trap(folder: Path, outside: Path) -> None:
        (folder / "evil.py").write_text(CODE)
        change(folder / file, **entries)

    return trap


def pickled(name: str, instead: bool = False) -> Trap:
    """A pickle beside the weights, or instead of them."""

    def trap(folder: Path, outside: Path) -> None:
        (folder / name).write_bytes(pickle.dumps(_Pickle()))
        if instead:
            (folder / "model.safetensors").unlink(missing_ok=True)

    return trap


def index(name: str) -> Trap:
    """An index that names the weights outside; `name` is filled with their folder."""

    def trap(folder: Path, outside: Path) -> None:
        (folder / "model.safetensors").unlink(missing_ok=True)
        weight_map = {"model.norm.weight": name.format(outside)}
        change(folder / "model.safetensors.index.json", metadata={}, weight_map=weight_map)

    return trap


def outside_file(file: str, entry: str, name: str) -> Trap:
    """An entry that names a file outside the folder."""

    def trap(folder: Path, outside: Path) -> None:
        value = str(outside / name)
        change(folder / file, **{entry: [value] if entry.endswith("files") else value})

    return trap


def adapter(folder: Path, outside: Path) -> None:
    change(folder / "adapter_config.json", base_model_name_or_path="evil/base", peft_type="LORA")
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Pickle()))


def templates(folder: Path, outside: Path) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "additional_chat_templates").mkdir(exist_ok=True)
    (folder / "additional_chat_templates" / "more.jinja").write_text(TEMPLATE)


def own_generate(folder: Path, outside: Path) -> None:
    (folder / "custom_generate").mkdir(exist_ok=True)
    (folder / "custom_generate" / "generate.py").write_text(CODE)
    change(folder / "generation_config.json", trust_remote_code=True, custom_generate="evil/repo")


def a_pipe(name: str) -> Trap:
    """A pipe in the place of a file: who opens it waits for ever."""

    def trap(folder: Path, outside: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return trap


KERNEL = "kernels-community/flash-attn2"
TOKENIZERS = {"AutoTokenizer": [None, "evil.EvilTokenizer"]}
TRAPS: dict[str, Trap] = {
    "code of a known model": code(auto_map=CODE_MAP),
    "code of an unknown model": code(auto_map=CODE_MAP, model_type="evil"),
    "code that trusts itself": code(auto_map=CODE_MAP, trust_remote_code=True),
    "code of another repository": config(auto_map=ELSEWHERE),
    "code of another repository, unknown": config(auto_map=ELSEWHERE, model_type="evil"),
    "code of a tokenizer": code("tokenizer_config.json", auto_map=TOKENIZERS),
    "code of an unknown tokenizer": code(
        "tokenizer_config.json", auto_map=TOKENIZERS, tokenizer_class="EvilTokenizer"
    ),
    "code that trusts itself, tokenizer": code(
        "tokenizer_config.json", auto_map=TOKENIZERS, trust_remote_code=True
    ),
    "code of a processor": code("processor_config.json", auto_map={"AutoProcessor": "evil.P"}),
    "code that generates": own_generate,
    "a pickle beside the weights": pickled("pytorch_model.bin"),
    "a pickle instead of the weights": pickled("pytorch_model.bin", instead=True),
    "a state dict": pickled("model.pth", instead=True),
    "training arguments": pickled("training_args.bin"),
    "a pickle called safetensors": pickled("model.safetensors"),
    "an index with an absolute path": index("{}/model.safetensors"),
    "an index that climbs": index("../outside/model.safetensors"),
    "an index that climbs inside": index("x/../../outside/model.safetensors"),
    "an index of pickles": index("pytorch_model.bin"),
    "weights named outside": outside_file(
        "config.json", "transformers_weights", "model.safetensors"
    ),
    "weights named climbing": config(transformers_weights="../outside/model.safetensors"),
    "another config": config(configuration_files=["config.4.0.0.json"]),
    "a kernel": config(attn_implementation=KERNEL),
    "a kernel, private name": config(_attn_implementation=KERNEL),
    "a kernel, internal name": config(_attn_implementation_internal=KERNEL),
    "a kernel of anybody": config(attn_implementation="evil/kernel@main:run"),
    "a kernel for a part": config(attn_implementation={"": KERNEL, "text_config": KERNEL}),
    "flash attention": config(attn_implementation="flash_attention_2"),
    "eager attention": config(attn_implementation="eager", output_attentions=True),
    "flexible attention": config(_attn_implementation="flex_attention"),
    "kernels": config(use_kernels=True, kernel_config={"RMSNorm": "evil/kernel:Norm"}),
    "kernels of experts": config(experts_implementation="sonicmoe", _experts_implementation="x/y"),
    "a patch": config(fusion_config={"rms_norm": True, "evil": {"module": "os"}}),
    "a distributed model": config(distributed_config={"tp_size": 8}, tp_plan="auto"),
    "another dtype": config(dtype="float64", torch_dtype="complex64"),
    "tuples": config(return_dict=False, use_return_dict=False, output_hidden_states=True),
    "quantized by kernels": config(quantization_config={"quant_method": "nvfp4"}),
    "quantized by anything": config(quantization_config={"quant_method": "evil"}),
    "another name": config(_name_or_path="evil/repo", name_or_path="evil/repo", _commit_hash="x"),
    "another name, tokenizer": tokenizer_config(name_or_path="evil/repo", _commit_hash="x"),
    "an adapter": adapter,
    "templates": templates,
    "a template": tokenizer_config(chat_template=TEMPLATE),
    "a model as tokenizer": tokenizer_config(tokenizer_class="AutoModelForCausalLM"),
    "a pipeline as tokenizer": tokenizer_config(tokenizer_class="pipeline"),
    "a module as tokenizer": tokenizer_config(tokenizer_class="os"),
    "a tokenizer's file": outside_file("tokenizer_config.json", "tokenizer_file", "tokenizer.json"),
    "a tokenizer's GGUF file": outside_file("tokenizer_config.json", "gguf_file", "x.gguf"),
    "a tokenizer's vocabulary": outside_file("tokenizer_config.json", "vocab_file", "vocab.json"),
    "a tokenizer's versions": outside_file(
        "tokenizer_config.json", "fast_tokenizer_files", "tokenizer.4.0.0.json"
    ),
    "a tokenizer's file by its tokens": outside_file(
        "special_tokens_map.json", "tokenizer_file", "tokenizer.json"
    ),
    "a token that prints": tokenizer_config(
        added_tokens_decoder={"0": {"content": "<pad>", "\x1b[2J": 1}}
    ),
    "a tokenizer's arguments": tokenizer_config(init_inputs=["/etc/passwd"]),
    "a pipe as config": a_pipe("config.json"),
    "a pipe as weights": a_pipe("model.safetensors"),
    "a pipe as tokenizer": a_pipe("tokenizer.json"),
    "escape codes": tokenizer_config(tokenizer_class="\x1b[31mred\x1b[0m<b>"),
    "escape codes in an index": index("\x1b[2J\r\n<script>alert(1)</script>.safetensors"),
}  # fmt: skip


@dataclass
class Watch:
    """What the process did while a folder was loaded.

    Attributes:
        outside: the folder of which nothing may be read.
        seen: events that must not be.
        is_on: whether events count.
    """

    outside: Path
    seen: list[str]
    is_on: bool = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        is_outside = event == "open" and str(self.outside) in str(arguments[0])
        if is_outside or event in WATCHED:
            self.seen.append(f"{event} {arguments!r:.200}")


def _make(folder: Path, good: Path, outside: Path, traps: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)
    # Pipes last: another trap that edits their file would wait for ever.
    for trap in sorted(traps, key=lambda trap: trap.startswith("a pipe ")):
        TRAPS[trap](folder, outside)


def _problem(folder: Path, expected: Any, watch: Watch) -> tuple[str, str]:
    """How loading ended, and what is wrong with it (nothing: empty)."""
    import torch

    import kvlens

    before = set(Path.cwd().rglob("ran-*"))
    watch.seen.clear()
    watch.is_on = True
    try:
        lm = kvlens.load(folder, device="cpu")
        logits = lm(torch.tensor([[5, 6, 7]]))
        kvlens.Encoder(lm, "mean").encode(["a cat"])
        end, problem = "loaded", _difference(lm, logits, expected)
    except kvlens.InputError as error:
        line = str(error).replace(str(folder.parent), "")
        is_good = line.isprintable() and len(line) <= LONGEST_LINE
        end, problem = "refused", "" if is_good else f"a bad line: {line!r}"
    except Exception as error:
        end, problem = "failed", f"{type(error).__name__}: {error!s:.300}"
    watch.is_on = False
    ran = sorted(path.name for path in set(Path.cwd().rglob("ran-*")) - before)
    return end, problem or "; ".join(watch.seen + ran)


def _difference(lm: Any, logits: Any, expected: Any) -> str:
    import torch

    kernel = lm.hf.config._attn_implementation
    if kernel != "sdpa":
        return f"attention runs by {kernel!r}"
    return "" if torch.equal(logits, expected) else "other numbers than without the traps"


def _prepare(folder: Path) -> tuple[Path, Path, Any]:
    """The good folder, the one outside with other weights, and the good one's logits."""
    import torch
    from zoo import tiny

    good, outside = folder / "good", folder / "outside"
    for home, seed in ((good, 0), (outside, 1)):
        lm = tiny("llama", seed)
        lm.hf.save_pretrained(home)
        lm.tokenizer.save_pretrained(home)
    shutil.copy(outside / "tokenizer.json", outside / "tokenizer.4.0.0.json")
    (outside / "vocab.json").write_text(json.dumps({"a": 0}))
    import kvlens

    return good, outside, kvlens.load(good, device="cpu")(torch.tensor([[5, 6, 7]]))


def cases(seed: int, n: int) -> list[list[str]]:
    """Every trap alone, then `n` folders with two or three."""
    rng = Random(seed)
    return [[trap] for trap in TRAPS] + [
        rng.sample(list(TRAPS), rng.choice((2, 3))) for _ in range(n)
    ]


def run(seed: int, n: int, folder: Path) -> dict[str, Any]:
    """Load the folders of `cases` in this process, which is watched from now on.

    Returns:
        How each case ended, and the problems.
    """
    good, outside, expected = _prepare(folder)
    os.chdir(folder)
    watch = Watch(outside, [])
    sys.addaudithook(watch)
    ends: Counter[str] = Counter()
    problems = []
    for number, traps in enumerate(cases(seed, n)):
        home = folder / NAMES[number % len(NAMES)]
        _make(home, good, outside, traps)
        end, problem = _problem(home, expected, watch)
        ends[f"{traps[0] if len(traps) == 1 else 'several traps'}: {end}"] += 1
        if problem:
            problems.append(f"{', '.join(traps)} ({end}): {problem}")
    return {"ends": ends, "problems": problems}


def campaign(seed: int, n: int, folder: Path) -> Counter[str]:
    """Every trap, and about `n` folders with several.

    Args:
        seed: of the combinations.
        n: how many folders in all.
        folder: empty.

    Returns:
        The trap and how loading ended -> how often.

    Raises:
        AssertionError: when anything was run, reached, or loaded from outside.
    """
    command = [sys.executable, "-m", "torture.hostile", str(seed), str(n), str(folder)]
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads((folder / "told.json").read_text())
    assert not told["problems"], f"seed {seed}: " + "\n".join(told["problems"])
    return Counter(told["ends"])


if __name__ == "__main__":
    where = Path(sys.argv[3])
    told = run(int(sys.argv[1]), max(0, int(sys.argv[2]) - len(TRAPS)), where)
    (where / "told.json").write_text(json.dumps(told))
