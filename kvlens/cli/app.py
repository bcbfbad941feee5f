"""The terminal: one function a command. Heavy imports wait until the arguments are parsed."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from kvlens import __version__
from kvlens.store.errors import InputError
from kvlens.store.provenance import made_by

DEFAULT_N = 600
# Hours of work of `evaluate` and `sweep`, each told with all that decides it: a new profile leaves them alone.
KEPT = ("results", "limit-*", "sweep.json", "study.json")


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


SUBJECTS: dict[str, dict[str, Any]] = {
    "model": {"metavar": "MODEL", "help": "named model, hub id, directory or .gguf file"},
    "models": {
        "metavar": "MODEL",
        "nargs": "+",
        "help": "named model, hub id, directory or .gguf file",
    },
    "folder": {"metavar": "RUN_DIR", "type": Path, "help": "folder that `kvlens profile` wrote"},
}
USUAL: dict[str, dict[str, Any]] = {
    "texts": {"help": ".txt, .jsonl, .csv, .tsv, .parquet, or - (default: Wikipedia passages)"},
    "column": {"help": "field or column that holds the text"},
    "prompt": {"default": "kv-document-inner", "help": "a named prompt, or a template with {text}"},
    "max-length": {
        "type": _positive,
        "help": "token limit with the prompt (default: the model's context)",
    },
    "strict": {"action": "store_true", "help": "refuse texts over the limit, do not truncate"},
    "layers": {
        "help": "layer-set file of `kvlens profile`, or layers such as 7-10, for kv_embedding"
    },
    "force": {"action": "store_true", "help": "use a layer set of another model"},
    "overwrite": {"action": "store_true", "help": "replace an existing output folder"},
}


@dataclass(frozen=True)
class Answer:
    """What a command has to say: for --json, for people, and its exit code."""

    data: Any
    text: str
    code: int = 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.default in (None, False, []) or "(default: " in (action.help or "")
        return action.help if told else super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(arguments)
    args.command_line = shlex.join(["kvlens", *arguments])
    try:
        with made_by(args.command_line):
            answer = args.run(args)
        if text := json.dumps(answer.data, indent=1) if args.json else answer.text:
            print(text)
        return answer.code
    except InputError as error:
        if args.debug:
            raise
        print(f"kvlens: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "kvlens: interrupted; nothing half-written was left (embed goes on with --resume)",
            file=sys.stderr,
        )
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kvlens",
        description="What a decoder-only LLM stores in its final token's keys and values, layer by layer.",
    )
    parser.add_argument("--version", action="version", version=f"kvlens {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(
        name: str,
        run: Callable[[argparse.Namespace], Answer],
        text: str,
        subject: str | None = "model",
    ) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=text, formatter_class=_Help
        )
        sub.set_defaults(run=run)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.add_argument(
            "--json",
            action="store_true",
            help="print the result alone, as JSON, on standard output",
        )
        if subject is None:
            return sub
        sub.add_argument(subject, **SUBJECTS[subject])
        sub.add_argument("--device", help="cpu, cuda, ... (default: cuda when there is one)")
        sub.add_argument("--dtype", help="float32, float16, bfloat16 (default: float32 on the CPU)")
        sub.add_argument("--revision", help="branch, tag or commit of a hub model")
        sub.add_argument(
            "--trust-remote-code", action="store_true", help="run the model repository's own code"
        )
        return sub

    def usual(sub: argparse.ArgumentParser, *names: str, batch_tokens: int | None = None) -> None:
        for name in names:
            sub.add_argument(f"--{name}", **USUAL[name])
        if batch_tokens:
            sub.add_argument(
                "--batch-tokens",
                type=_positive,
                default=batch_tokens,
                help="padded tokens in a batch",
            )

    def text_options(sub: argparse.ArgumentParser, n: int) -> None:
        sub.add_argument("--n", type=_positive, default=n, help="how many texts")
        usual(sub, "texts", "column", "prompt", "max-length", "strict", batch_tokens=2048)

    told = "intrinsic dimension per layer: plot, numbers and the exported layer set"
    sub = command("profile", _profile, told, "models")
    text_options(sub, DEFAULT_N)
    sub.add_argument(
        "--points", default="last", choices=("last", "mean", "all"), help="which hidden states"
    )
    sub.add_argument(
        "--states",
        default="hidden",
        choices=("hidden", "k", "k_pre", "v", "kv"),
        help="what to measure",
    )
    sub.add_argument(
        "--estimators",
        default="twonn,mle",
        help="comma-separated; the first one selects the layers",
    )
    sub.add_argument(
        "--rule", default="paper", help="paper, lowest-k, window-around-minimum or explicit"
    )
    sub.add_argument("--window", type=float, default=0.10, help="window, as a share of the layers")
    sub.add_argument(
        "--skip-early",
        type=float,
        default=0.20,
        help="share of early layers that paper passes over",
    )
    sub.add_argument(
        "--layers", type=_layers, help="layers for --rule explicit, such as 7-10 or 7,9"
    )
    sub.add_argument(
        "--save-trace", action="store_true", help="keep the recorded K, V and hidden states too"
    )
    sub.add_argument("-o", "--output", type=Path, help="folder to write (default: runs/MODEL)")
    sub.add_argument(
        "--overwrite",
        action="store_true",
        help="replace an existing output folder, but for sweeps and results/",
    )

    command("models", _models, "the named small models, and which are already here", None)

    sub = command("check", _check, "prove the recording right on a model, against raw transformers")
    sub.add_argument(
        "--tolerance", type=float, help="largest relative difference (default: 2e-4 in float32)"
    )

    sub = command("embed", _embed, "vectors for a file of texts, with the exported layer set")
    sub.add_argument(
        "-i", "--input", required=True, help=".txt, .jsonl, .csv, .tsv, .parquet (also .gz), or -"
    )
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help=".npy (ids in OUTPUT.json), .safetensors, .parquet",
    )
    sub.add_argument("--method", default="kv_embedding", help="an embedding method")
    sub.add_argument(
        "--id-column",
        help="field or column that holds the ids (default: id or _id, else the row number)",
    )
    sub.add_argument(
        "--kind", default="document", choices=("document", "query"), help="which prompt"
    )
    sub.add_argument("--normalize", action="store_true", help="unit length")
    sub.add_argument("--truncate-dim", type=_positive, help="keep so many leading dimensions")
    sub.add_argument("--post", help="center, zscore or whiten, fitted before; or its file")
    sub.add_argument(
        "--fit-post",
        choices=("center", "zscore", "whiten"),
        help="fit it now, on Wikipedia passages",
    )
    sub.add_argument(
        "--chunk", type=_positive, default=256, help="texts finished at a time, for --resume"
    )
    sub.add_argument(
        "--skip-bad", action="store_true", help="leave out and count rows without a usable text"
    )
    sub.add_argument("--resume", action="store_true", help="continue a stopped run")
    sub.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing vectors, or start a stopped run again",
    )
    sub.add_argument(
        "--force", action="store_true", help="use a layer set or post-processing of another model"
    )
    usual(sub, "column", "max-length", "strict", "layers", batch_tokens=4096)

    sub = command("attend", _attend, "how re-routing changes attention, on one text or over many")
    sub.add_argument(
        "--layers", required=True, help="layer-set file of `kvlens profile`, or layers such as 7-10"
    )
    sub.add_argument("--text", help="one text, in full")
    sub.add_argument(
        "--texts", help=".txt, .jsonl, .csv, .tsv, .parquet, -, or wikipedia for its passages"
    )
    sub.add_argument("--n", type=_positive, default=DEFAULT_N, help="how many of --texts")
    sub.add_argument(
        "--prompt", help="a named prompt, or a template with {text} (default: the layer set's)"
    )
    sub.add_argument("--bins", type=_positive, default=10, help="bins of relative position")
    sub.add_argument(
        "--span",
        default="prompted",
        choices=("prompted", "text"),
        help="tokens that positions count",
    )
    sub.add_argument(
        "-o", "--output", type=Path, help="folder to write (default: runs/MODEL-attend)"
    )
    usual(sub, "column", "max-length", "force", "overwrite", batch_tokens=1024)

    sub = command(
        "lens",
        _lens,
        "what the final token's K and V hold: ID, rank, share of the embedding; geometry by method",
    )
    sub.add_argument(
        "--layers", required=True, help="layer-set file of `kvlens profile`, or layers such as 7-10"
    )
    sub.add_argument("--n", type=_positive, default=300, help="how many texts for the KV lens")
    sub.add_argument(
        "--n-geometry",
        type=_positive,
        default=200,
        help="how many of them for each method's geometry",
    )
    sub.add_argument(
        "--methods", help="methods whose geometry is compared, comma-separated (default: six)"
    )
    sub.add_argument(
        "--pairs",
        help=".jsonl with sentence1, sentence2, score: those above 4 count as one meaning",
    )
    sub.add_argument("-o", "--output", type=Path, help="folder to write (default: runs/MODEL-lens)")
    usual(sub, "column", "max-length", "force", "overwrite", "texts", batch_tokens=2048)

    told = "one HTML page of a run: profile, layers, attention, geometry, evaluation"
    sub = command("report", _report, told, "folder")
    sub.add_argument(
        "-o", "--output", type=Path, help="file to write (default: RUN_DIR/report.html)"
    )
    sub.add_argument(
        "--texts",
        help="measure attention (again) on these: .txt, .jsonl, .csv, .tsv, .parquet, or -",
    )
    sub.add_argument("--n", type=_positive, default=60, help="how many texts the averages are over")
    sub.add_argument("--no-model", action="store_true", help="show what is there, measure nothing")
    usual(sub, "column")

    sub = command(
        "score",
        _score,
        "a quick look at methods and prompts: Spearman x 100 on a file of sentence pairs",
    )
    sub.add_argument("--pairs", required=True, help=".jsonl with sentence1, sentence2, score")
    sub.add_argument("--n", type=_positive, help="how many pairs, evenly spread (default: all)")
    sub.add_argument("--methods", default="kv_embedding", help="comma-separated, or all")
    sub.add_argument(
        "--prompts",
        help="document prompts to compare, comma-separated (default: each method's own)",
    )
    sub.add_argument(
        "--bias", type=float, help="bias of kv_embedding (default: the layer set's, else 1)"
    )
    sub.add_argument(
        "--pooling", help="last, mean, hybrid or text_mean (default: each method's own)"
    )
    usual(sub, "layers")

    sub = command(
        "sweep",
        _sweep,
        "quality when re-routing a window at every depth, and which layers the rules miss",
    )
    sub.add_argument(
        "--pairs",
        type=Path,
        required=True,
        help="validation pairs: .jsonl, sentence1, sentence2, score",
    )
    sub.add_argument("--n", type=_positive, default=300, help="how many pairs, evenly spread")
    sub.add_argument(
        "--widths", type=_layers, help="window widths such as 1,4 (default: that of the rules)"
    )
    sub.add_argument("--biases", type=_floats, default="1", help="biases such as 0,1,3")
    sub.add_argument(
        "--layers",
        action="append",
        default=[],
        help="one more layer set: a file, or such as 23,27-29",
    )
    sub.add_argument(
        "--prompt", default="kv-document-inner", help="a named prompt, or a template with {text}"
    )
    sub.add_argument("--pooling", default="hybrid", help="last, mean, hybrid or text_mean")
    sub.add_argument(
        "--position", default="keep", help="keep, origin or none: coding of the re-routed key"
    )
    sub.add_argument(
        "--profiles",
        help="profile.json files, comma-separated: judge every rule on each (study.json)",
    )
    sub.add_argument(
        "-o", "--output", type=Path, help="file to write (default: runs/MODEL/sweep.json)"
    )
    sub.add_argument("--resume", action="store_true", help="add to an existing sweep what it lacks")
    sub.add_argument("--overwrite", action="store_true", help="replace existing files")
    usual(sub, batch_tokens=2048)

    sub = command(
        "evaluate", _evaluate, "methods on mteb's tasks, with intervals and significance; resumes"
    )
    sub.add_argument(
        "--tasks",
        default="STSBenchmark",
        help="mteb's tasks or benchmarks, folders of --data-dir, or LongWikipedia",
    )
    sub.add_argument(
        "--methods",
        default="all",
        help="comma-separated, or all; with settings: kv_embedding:layers=none:bias=3",
    )
    sub.add_argument(
        "--post", default="none", help="none, center, zscore, whiten: comma-separated, a row each"
    )
    sub.add_argument("--data-dir", help="a folder with a folder per task, read in place of the hub")
    sub.add_argument("--split", help="evaluate this split, not the task's own")
    sub.add_argument(
        "--limit", type=_positive, help="a quick look at so many items of a task; NOT comparable"
    )
    sub.add_argument(
        "--task-instructions", action="store_true", help="put mteb's instruction before the prompt"
    )
    sub.add_argument(
        "--lengths", default="256,512,1024,2048,4096", help="tokens of a document of LongWikipedia"
    )
    sub.add_argument(
        "--corpus",
        help="long texts in place of Wikipedia, an opening paragraph and a blank line first",
    )
    sub.add_argument(
        "-o", "--output", type=Path, help="folder to write, or to continue (default: runs/MODEL)"
    )
    usual(sub, "column", "max-length", "force", "layers", batch_tokens=4096)

    sub = command("bench", _bench, "speed, as ratios measured side by side in one run")
    text_options(sub, 64)
    sub.add_argument("--threads", type=_positive, help="CPU threads (default: torch's own choice)")
    sub.add_argument(
        "--record", action="store_true", help="recording against the raw base-model forward"
    )
    sub.add_argument(
        "--memory", action="store_true", help="peak memory of a profile above the idle loaded model"
    )
    sub.add_argument("--methods", help="embedding methods to time, comma-separated, or all")
    usual(sub, "layers")
    sub.add_argument(
        "--repeats", type=_positive, default=5, help="rounds; medians and extremes are shown"
    )
    return parser


def _layers(text: str) -> tuple[int, ...]:
    try:
        parts = [part.split("-") for part in text.split(",")]
        if any(len(part) > 2 or int(part[0]) > int(part[-1]) for part in parts):
            raise ValueError
        return tuple(i for part in parts for i in range(int(part[0]), int(part[-1]) + 1))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of layers such as 7-10 or 7,9"
        ) from None


def _floats(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers such as 0,1,3"
        ) from None


def _layer_set_or_layers(text: str | None) -> Any:
    """A layer-set file's path, or block indices."""
    if text is None or Path(text).exists() or not text[:1].isdigit():
        return text
    try:
        return _layers(text)
    except argparse.ArgumentTypeError as error:
        raise InputError(f"--layers {error}, nor a file") from error


@contextlib.contextmanager
def _progress(what: str, unit: str = "texts") -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error with the rate and the time left; nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich import progress as rich
    from rich.console import Console

    class Rate(rich.ProgressColumn):
        def render(self, task: rich.Task) -> Any:
            return f"{task.speed:.1f} {unit}/s" if task.speed else ""

    words = rich.TextColumn("{task.description}", markup=False)  # a prompt may hold [/INST]
    columns = (words, rich.BarColumn(), rich.MofNCompleteColumn(), Rate())
    with rich.Progress(
        *columns, rich.TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _run_name(model: str) -> str:
    return Path(model.rstrip("/")).name.removesuffix(".gguf")


def _load(args: argparse.Namespace, name: str, bridge: bool = True) -> Any:
    from kvlens.models.catalog import NAMED, is_cached
    from kvlens.models.loading import load

    note = ""
    if name in NAMED and not is_cached(name):
        note = f" (first use: fetching {NAMED[name].megabytes} MB and converting, about a minute)"
    with _progress(f"loading {name}{note}", "models"):
        lm = load(name, args.device, args.dtype, args.revision, args.trust_remote_code)
        if bridge:
            _ = lm.bridge
    return lm


def _texts(args: argparse.Namespace, minimum: int = 1) -> Any:
    from kvlens.texts.readers import read_texts
    from kvlens.texts.wikipedia import calibration_texts

    own = args.texts in (None, "wikipedia")
    texts = calibration_texts(args.n) if own else read_texts(args.texts, args.column, args.n)
    if (distinct := len(set(texts.items))) < minimum:
        raise InputError(
            f"{texts.source} has {distinct} distinct texts, at least {minimum} are needed: give more"
        )
    return texts


@contextlib.contextmanager
def _output_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a scratch folder that becomes `folder` on success and vanishes on failure."""
    if folder.exists() and not overwrite:
        raise InputError(f"{folder} exists: give another -o, or --overwrite to replace it")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder: give another -o")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from error
    with scratch:
        new, old = Path(scratch.name) / "new", Path(scratch.name) / "old"
        new.mkdir()
        yield new
        try:
            if folder.exists():
                folder.rename(old)
                for kept in (path for name in KEPT for path in old.glob(name)):
                    kept.rename(new / kept.name)
            new.rename(folder)
        except OSError as error:
            if old.exists():
                old.rename(folder)
            raise InputError(f"cannot write {folder}: {error.strerror}") from error


def _profile(args: argparse.Namespace) -> Answer:
    from kvlens.dimension.estimation import estimate
    from kvlens.dimension.neighbours import MIN_POINTS
    from kvlens.layers.selection import select
    from kvlens.plots.saving import save_profile_plots
    from kvlens.tracing.recording import record
    from kvlens.tracing.trace import KEEP

    start = time.monotonic()
    names = [name.rstrip("/") for name in args.models]
    folder = args.output or Path("runs") / "+".join(_run_name(name) for name in names)
    estimators = tuple(name.strip() for name in args.estimators.split(","))
    keep = KEEP if args.save_trace else {"kv": ("k", "v")}.get(args.states, (args.states,))
    with _output_folder(folder, args.overwrite) as scratch:
        texts = _texts(args, MIN_POINTS)
        profiles, layer_sets, results = [], [], []
        for name in names:
            lm = _load(args, name)
            with _progress(f"recording {name}") as bar:
                trace = record(
                    lm,
                    texts,
                    args.prompt,
                    args.points,
                    keep,
                    max_length=args.max_length,
                    strict=args.strict,
                    batch_tokens=args.batch_tokens,
                    progress=bar,
                )
            with _progress(f"estimating {name}", "layers") as bar:
                profile = estimate(trace, args.states, estimators, progress=bar)
            layer_set = select(
                profile,
                args.rule,
                window=args.window,
                skip_early=args.skip_early,
                estimator=estimators[0],
                layers=args.layers,
                command=args.command_line,
            )
            own = scratch if len(names) == 1 else scratch / _run_name(name)
            own.mkdir(exist_ok=True)
            profile.save(own / "profile.json")
            layer_set.save(own / "layers.json")
            if args.save_trace:
                trace.save(own / "trace.safetensors")
            if len(names) > 1:
                save_profile_plots([profile], [layer_set], own)
            profiles.append(profile)
            layer_sets.append(layer_set)
            results.append(_summary(profile, layer_set, trace, estimators[0]))
            del lm, trace
        save_profile_plots(profiles, layer_sets, scratch)
    seconds = time.monotonic() - start
    lines: list[Any] = []
    for profile, layer_set, result in zip(profiles, layer_sets, results, strict=True):
        if result["truncated"]:
            lines.append(
                f"{result['truncated']} of {result['n']} texts were truncated to the token limit"
            )
        lines += [*(f"warning: {warning}" for warning in profile.warnings), layer_set]
    lines.append(
        f"plot: {folder / 'layer_id.png'} (also .pdf, .html); layer set: layers.json; numbers: profile.json"
    )
    lines.append(f"done in {seconds:.0f} s")
    data = {"folder": str(folder), "seconds": round(seconds, 1), "models": results}
    return Answer(data, "\n".join(map(str, lines)))


def _summary(profile: Any, layer_set: Any, trace: Any, estimator: str) -> dict[str, Any]:
    return {
        "model": profile.model.name,
        "layers": list(layer_set.layers),
        "reason": layer_set.reason,
        "shape": layer_set.shape.name,
        "warnings": [*layer_set.warnings, *profile.warnings],
        "estimator": estimator,
        "id": [round(float(value), 3) for value in profile.values(estimator)],
        "stderr": [round(float(value), 3) for value in profile.stderrs(estimator)],
        "n": trace.texts.n,
        "truncated": trace.n_truncated,
    }


def _models(args: argparse.Namespace) -> Answer:
    from kvlens.models.catalog import NAMED, is_cached

    rows = [
        {
            "name": name,
            "here": is_cached(name),
            "megabytes": m.megabytes,
            "licence": m.licence,
            "note": m.note,
        }
        for name, m in NAMED.items()
    ]
    lines = []
    for row in rows:
        here = "here" if row["here"] else f"fetched at first use ({row['megabytes']} MB)"
        lines.append(f"{row['name']:14} {here:32} {row['licence']:20} {row['note']}")
    lines.append("Besides these: a hub id (org/name), a model directory, or a .gguf file.")
    return Answer(rows, "\n".join(lines))


def _check(args: argparse.Namespace) -> Answer:
    from kvlens.checks.parity import check

    result = check(_load(args, args.model), tolerance=args.tolerance)
    lines = [
        f"{kind:7} largest relative difference {value:.1e}"
        for kind, value in result.differences.items()
    ]
    verdict = "passed" if result.passed else "FAILED"
    lines.append(
        f"{verdict}: {result.n_texts} texts, both padding sides, tolerance {result.tolerance:g}"
    )
    data = {"passed": result.passed, "tolerance": result.tolerance, **result.differences}
    return Answer(data, "\n".join(lines), 0 if result.passed else 1)


def _embed(args: argparse.Namespace) -> Answer:
    from kvlens.embedding.encoder import Encoder
    from kvlens.embedding.vectors import check_target, embed_file
    from kvlens.texts.wikipedia import calibration_texts

    check_target(args.output, args.input, args.resume, args.overwrite)
    lm, layers = _load(args, args.model, bridge=False), _layer_set_or_layers(args.layers)
    options = (args.post, args.max_length, args.batch_tokens, args.strict, args.force)
    encoder = Encoder(lm, args.method, layers, *options)
    if args.fit_post:
        encoder.fit_post(args.fit_post, calibration_texts())
    with _progress(f"embedding {args.input}") as bar:
        result = embed_file(
            encoder,
            args.input,
            args.output,
            args.column,
            args.id_column,
            args.kind,
            args.normalize,
            args.truncate_dim,
            args.skip_bad,
            args.resume,
            args.overwrite,
            args.chunk,
            bar,
        )
    text = f"{result.rows} vectors of {result.dimension} dimensions in {result.seconds:.0f} s: {args.output}"
    if result.truncated or result.skipped:
        text += f"\n{result.truncated} texts truncated to the token limit, {result.skipped} bad rows skipped"
    return Answer({"output": str(args.output), **asdict(result)}, text)


def _attend(args: argparse.Namespace) -> Answer:
    from kvlens.plots.attention import attend

    if (args.text is None) == (args.texts is None):
        raise InputError("give either --text or --texts")
    args.output = args.output or Path("runs") / f"{_run_name(args.model)}-attend"
    options: dict[str, Any] = {"max_length": args.max_length}
    with _output_folder(args.output, args.overwrite) as folder:
        texts = _texts(args) if args.texts else None
        lm, layers = _load(args, args.model), _layer_set_or_layers(args.layers)
        with _progress("reading attention") as bar:
            if texts is not None:
                options |= {
                    "bins": args.bins,
                    "span": args.span,
                    "batch_tokens": args.batch_tokens,
                    "progress": bar,
                }
            result: Any = attend(
                lm, layers, folder, args.text, texts, args.prompt, args.force, **options
            )
        files = sorted(path.name for path in folder.iterdir())
    told = result if texts is not None else f"{len(result.tokens)} tokens, with the prompt"
    return _written(args.output, files, str(told))


def _lens(args: argparse.Namespace) -> Answer:
    from kvlens.analysis.lens import kv_lens
    from kvlens.analysis.method_geometry import METHODS, measure
    from kvlens.dimension.estimation import estimate
    from kvlens.dimension.neighbours import MIN_POINTS
    from kvlens.embedding.cache import EmbeddingCache
    from kvlens.embedding.encoder import Encoder
    from kvlens.plots.profile import plot_profile
    from kvlens.plots.saving import save_lens_plots
    from kvlens.plots.style import save_figures
    from kvlens.texts.pairs import read_pairs
    from kvlens.tracing.recording import record
    from kvlens.tracing.trace import KEEP

    args.output = args.output or Path("runs") / f"{_run_name(args.model)}-lens"
    with _output_folder(args.output, args.overwrite) as folder:
        texts, cache = _texts(args, MIN_POINTS), EmbeddingCache()
        given = read_pairs(args.pairs) if args.pairs else None
        rows = zip(given.first, given.second, given.scores, strict=True) if given else ()
        pairs = [(a, b) for a, b, score in rows if score > 4]
        source = f"{'/'.join(Path(args.pairs or '').parts[-2:])}, score above 4"
        methods = tuple(args.methods.split(",")) if args.methods else METHODS
        lm, layers = _load(args, args.model), _layer_set_or_layers(args.layers)
        encoder = Encoder(lm, "kv_embedding", layers, max_length=args.max_length, force=args.force)
        limits = {"max_length": args.max_length, "batch_tokens": args.batch_tokens}
        with _progress("recording") as bar:
            trace = record(lm, texts, encoder.method.document, progress=bar, **limits)
        with _progress("embedding") as bar:
            lens = kv_lens(trace, cache.encode(encoder, texts.items, progress=bar))
        with _progress("embedding by method") as bar:
            some = replace(texts, items=texts.items[: args.n_geometry], ids=None)
            options = {
                "cache": cache,
                "force": args.force,
                "progress": bar,
                "command": args.command_line,
            }
            geometry = measure(
                lm, layers, methods, texts=some, pairs=pairs, pairs_source=source, **options
            )
        profiles = [estimate(trace, states, ("twonn",)) for states in KEEP]
        for profile in profiles:
            profile.save(folder / f"id_{profile.states}.json")
        save_figures({"id": plot_profile(profiles, relative_depth=False, width=6.9).figure}, folder)
        lens.save(folder / "kv_lens.json")
        geometry.save(folder / "geometry.json")
        save_lens_plots(lens, geometry, folder)
        files = sorted(path.name for path in folder.iterdir())
    lines = []
    for row in geometry.methods:
        near = "" if row.alignment is None else f", alignment {row.alignment:.2f}"
        spread = f"mean cosine {row.mean_cosine:.2f}, eigenvalue entropy {row.eigenvalue_entropy_ratio:.2f}"
        lines.append(f"{row.label:30} {spread}, uniformity {row.uniformity:.2f}{near}")
    return _written(args.output, files, "\n".join(lines))


def _written(folder: Path, files: list[str], told: str) -> Answer:
    return Answer(
        {"folder": str(folder), "files": files}, f"{told}\nwritten to {folder}: {', '.join(files)}"
    )


def _report(args: argparse.Namespace) -> Answer:
    from kvlens.layers.layer_set import LayerSet
    from kvlens.reporting.page import report
    from kvlens.reporting.run_folder import Run

    if args.no_model and args.texts:
        raise InputError("--texts are measured with the model: give them without --no-model")
    texts = _texts(args) if args.texts else None

    def model() -> Any:
        info = LayerSet.load(args.folder / "layers.json").model
        args.revision = args.revision or (
            None if info.revision.startswith("sha256:") else info.revision
        )
        return _load(args, info.name)

    lm = None if args.no_model else model
    path = report(args.folder, args.output, lm, texts, args.n, _progress, args.command_line)
    missing = [
        {"what": what, "command": command} for what, command in Run.read(args.folder).missing
    ]
    size = path.stat().st_size
    lines = [f"not in it: {one['what']} ({one['command']})" for one in missing]
    lines.append(f"written: {path} ({size / 1e6:.1f} MB, opens offline)")
    return Answer({"report": str(path), "bytes": size, "missing": missing}, "\n".join(lines))


def _score(args: argparse.Namespace) -> Answer:
    from kvlens.embedding.encoder import Encoder
    from kvlens.evaluation.pair_score import score
    from kvlens.methods.base import methods
    from kvlens.texts.pairs import read_pairs
    from kvlens.texts.prompts import get_prompt

    pairs, layers = read_pairs(args.pairs, args.n), _layer_set_or_layers(args.layers)
    lm, results = _load(args, args.model, bridge=False), []
    for name in list(methods()) if args.methods == "all" else args.methods.split(","):
        own = name == "kv_embedding"
        settings = {"pooling": args.pooling, "bias": args.bias if own else None}
        given: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
        for prompt in args.prompts.split(",") if args.prompts else (None,):
            shown: dict[str, Any] = {"document": get_prompt(prompt)} if prompt else {}
            encoder = Encoder(lm, name, layers if own else None, **given, **shown)
            with _progress(f"{name} {prompt or ''}") as bar:
                found = score(encoder, pairs, bar)
            results.append(
                {"method": name, "prompt": encoder.method.document.name, **asdict(found)}
            )
            if not args.json:
                interval = f"{found.low:.1f} to {found.high:.1f}"
                print(
                    f"{name:18} {results[-1]['prompt']:22} {found.spearman:5.1f}  ({interval}, n = {found.n})"
                )
    return Answer(results, "")


def _sweep(args: argparse.Namespace) -> Answer:
    from kvlens.dimension.profile import IDProfile
    from kvlens.layers.layer_set import LayerSet
    from kvlens.studies.layer_sweep import Sweep, sweep, windows
    from kvlens.studies.regret import choices, study
    from kvlens.texts.pairs import read_pairs

    file = args.output or Path("runs") / _run_name(args.model) / "sweep.json"
    judged = file.with_name("study.json")
    if taken := [
        path for path in (file, judged) if path.exists() and not (args.overwrite or args.resume)
    ]:
        raise InputError(
            f"{taken[0]} exists: give another -o, --resume to add to it, or --overwrite to replace it"
        )
    known = Sweep.load(file) if args.resume and file.exists() else None
    pairs = read_pairs(args.pairs, args.n)
    profiles = [IDProfile.load(path) for path in args.profiles.split(",")] if args.profiles else []
    given = [_layer_set_or_layers(text) for text in args.layers]
    files = [LayerSet.load(one) for one in given if isinstance(one, str)]
    others = [(one.rule, one.layers) for one in files] + [
        ("explicit", one) for one in given if not isinstance(one, str)
    ]
    lm = _load(args, args.model, bridge=False)
    for what, model in [("profile", p.model) for p in profiles] + [
        ("layer set", f.model) for f in files
    ]:
        if not model.same_weights(lm.info):
            raise InputError(f"a {what} was made for {model.name}, not for {lm.info.name}")
    widths = args.widths or (1 + lm.info.n_layers // 10,)
    sets = [*windows(lm.info.n_layers, widths), *(layers for _, layers in others)]
    sets += [layers for width in widths for layers in choices(profiles, width).values()]
    with _progress(f"sweeping {args.model}") as bar:
        found = sweep(
            lm,
            pairs,
            sets,
            args.biases,
            args.prompt,
            args.pooling,
            args.position,
            data="/".join(args.pairs.absolute().parts[-2:]),
            batch_tokens=args.batch_tokens,
            command=args.command_line,
            progress=bar,
            known=known,
        )
    found.save(file)
    judge = bool(profiles or others)
    result = study(found, profiles, others=others, command=args.command_line) if judge else None
    if result:
        result.save(judged)
    elif not args.resume:  # it judged the sweep that was there before
        judged.unlink(missing_ok=True)
    told = f"{result}\nwritten to {file} and {judged}" if result else f"written to {file}"
    return Answer((result or found).model_dump(mode="json"), f"{found}\n{told}")


def _evaluate(args: argparse.Namespace) -> Answer:
    from kvlens.embedding.post import KINDS
    from kvlens.evaluation.long_texts import LONG, long_articles
    from kvlens.evaluation.run import evaluate
    from kvlens.evaluation.tasks import find_tasks
    from kvlens.texts.readers import read_texts

    posts = [None if kind == "none" else kind for kind in args.post.split(",")]
    if unknown := {kind for kind in posts if kind} - set(KINDS):
        raise InputError(f"--post takes none, {', '.join(KINDS)}, not {', '.join(unknown)}")
    if not all(length.isdigit() and int(length) for length in args.lengths.split(",")):
        raise InputError(f"--lengths takes numbers of tokens such as 256,1024, not {args.lengths}")
    names = re.split(r",(?![^(]*\))", args.tasks)  # a benchmark's name may have a comma in brackets
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        tasks = find_tasks([name for name in names if name != LONG], args.data_dir, args.split)
    for note in notes:
        print(f"note: {' '.join(str(note.message).split())}", file=sys.stderr)
    corpus = read_texts(args.corpus, args.column) if args.corpus else None
    lm = _load(args, args.model.rstrip("/"), bridge=False)
    if LONG in names:
        tasks += long_articles(
            lm.tokenizer, [int(length) for length in args.lengths.split(",")], corpus
        )
    table = evaluate(
        lm,
        tasks,
        args.output or Path("runs") / _run_name(args.model),
        re.split(r",(?![^\[]*\])", args.methods),  # not within depth=[0.5,1]
        _layer_set_or_layers(args.layers),
        posts,
        args.limit,
        args.task_instructions,
        args.max_length,
        args.batch_tokens,
        args.force,
        progress=_progress,
        command=args.command_line,
    )
    return Answer(table.model_dump(mode="json"), table.markdown())


def _draw_profile(profile: Any, layer_set: Any, folder: Path) -> None:
    from kvlens.plots.saving import save_profile_plots

    save_profile_plots([profile], [layer_set], folder)


def _bench(args: argparse.Namespace) -> Answer:
    from kvlens.checks import bench

    if not (args.record or args.memory or args.methods):
        raise InputError("nothing to measure: give --record, --memory or --methods")
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    results = []
    lm, texts = _load(args, args.model), _texts(args)
    if args.memory:
        results.append(bench.memory(lm, texts, args.prompt, args.batch_tokens, _draw_profile))
    if args.record:
        results.append(bench.recording(lm, texts, args.prompt, args.batch_tokens, args.repeats))
    if args.methods:
        from kvlens.methods.base import methods

        names = list(methods()) if args.methods == "all" else args.methods.split(",")
        layers = _layer_set_or_layers(args.layers)
        results += bench.encoding(lm, texts, names, layers, args.batch_tokens, args.repeats)
    lines = ["; ".join(f"{key} {value}" for key, value in result.items()) for result in results]
    return Answer(results, "\n".join(lines))
