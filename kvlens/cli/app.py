"""The terminal: its commands, and what they share: one answer, one line for bad input, exit codes.

A command is a function in a file of its name; it imports what is heavy when it runs, and returns an
`Answer`.
"""

from __future__ import annotations

import json as json_module
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from inspect import BoundArguments
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter
from cyclopts.exceptions import CycloptsError, UnusedCliTokensError

from kvlens import __version__
from kvlens.cli.answers import Answer, json_alone
from kvlens.cli.attend import attend
from kvlens.cli.bench import bench
from kvlens.cli.check import check
from kvlens.cli.choose import choose
from kvlens.cli.compare import compare
from kvlens.cli.embed import embed
from kvlens.cli.endings import reason, stopped, unheard
from kvlens.cli.evaluate import evaluate
from kvlens.cli.figures import figures
from kvlens.cli.flags import flags_in
from kvlens.cli.lens import lens
from kvlens.cli.models import models
from kvlens.cli.notices import notices_told
from kvlens.cli.options import EVERY, OWN
from kvlens.cli.pairs import score
from kvlens.cli.profile import profile
from kvlens.cli.record import record
from kvlens.cli.report import report
from kvlens.cli.settings import Settings, Told, read_settings, settings_told, write_settings_beside
from kvlens.cli.signals import stopped_by_signals
from kvlens.cli.streams import Unheard, complain, usable_streams, write_out
from kvlens.cli.sweep import sweep
from kvlens.cli.values import shown_default
from kvlens.cli.verify import verify
from kvlens.store.errors import InputError
from kvlens.store.provenance import made_by
from kvlens.texts.addresses import public_word

COMMANDS = {
    Group("Look into a model", sort_key=1): (
        profile,
        record,
        attend,
        lens,
        report,
        figures,
        models,
    ),
    Group("Embed", sort_key=2): (embed,),
    Group("Judge", sort_key=3): (choose, evaluate, sweep, compare, check, verify, bench),
}

app = App(
    name="kvlens",
    help="What a decoder-only LLM stores in its final token's keys and values, layer by layer.",
    version=f"kvlens {__version__}",
    help_format="plaintext",
    group_commands=Group("Besides", sort_key=4),
    group_parameters=OWN,
    default_parameter=Parameter(negative=(), allow_repeating=True, show_default=shown_default),
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
app.meta.suppress_keyboard_interrupt = False  # it does not take it from the app
for group, commands in COMMANDS.items():
    for place, command in enumerate(commands):
        app.command(command, group=group, sort_key=place)
app.command(score, show=False)
app.register_install_completion_command(
    help="Let your shell complete commands and flags: writes a script and its start-up file."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; default: those of the process.

    Returns:
        The exit code: 0 done, 1 a check failed, 2 bad input or a place that cannot be used; 128
        and the number of the signal that stopped it: 130 Ctrl-C, 143 SIGTERM, 141 a closed pipe.

    Raises:
        SystemExit: 2 for arguments that are no command line, 0 after the help or the version.
        InputError: for bad input, with --debug.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        command_line = made_by(shlex.join(["kvlens", *map(public_word, arguments)]))
        with stopped_by_signals(), usable_streams(), command_line:
            code = app.meta(arguments)
    except CycloptsError as error:
        complain(usage_error(error))
        sys.exit(2)
    except Unheard as error:
        return unheard(error)
    except KeyboardInterrupt as stop:
        return stopped(stop, arguments)
    if code is None:
        sys.exit(0)
    return code


@app.meta.default
def run(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    json: Annotated[bool, Parameter(group=EVERY)] = False,
    debug: Annotated[bool, Parameter(group=EVERY)] = False,
    config: Annotated[Path | None, Parameter(group=EVERY)] = None,
) -> int | None:
    """Run the command that the tokens name, and print its answer.

    Args:
        tokens: the command line without the flags below
        json: print the result alone, as JSON, on standard output
        debug: show the traceback of an error
        config: settings file, as every command writes one: for the flags that are not given

    Returns:
        The exit code; None after the installation of completion, which answers for itself.
    """
    _check_encoding(tokens)
    try:
        tokens, given = _with_settings(tokens, config)
        if not tokens:
            raise CycloptsError("a command is missing")
        told = Told(given)
        command, bound = _parsed(tokens, told)
        with (
            json_alone(json),
            notices_told(partial(_in_flags, tokens=tokens)),
            settings_told(told.settings, anew=given is not None),
        ):
            answer = command(*bound.args, **bound.kwargs)
            if answer is not None and answer.place is not None:
                write_settings_beside(answer.place)
    except InputError as error:
        if debug:
            raise
        complain(f"kvlens: {_in_flags(str(error), tokens)}")
        return 2
    except OSError as error:  # a full disk, a folder that went away: no fault of the program
        if debug:
            raise
        complain(f"kvlens: {reason(error)}")
        return 2
    return None if answer is None else _shown(answer, json)


def _with_settings(
    tokens: tuple[str, ...], config: Path | None
) -> tuple[tuple[str, ...], Settings | None]:
    """The command line with a command, and the settings of a file."""
    if config is None:
        return tokens, None
    commands, _, _ = app.parse_commands(tokens)
    given = read_settings(config, commands[0] if commands else None)
    return tokens if commands else (given.command, *tokens), given


def _parsed(tokens: Sequence[str], told: Told) -> tuple[Callable[..., Any], BoundArguments]:
    app.config = (told,)
    try:
        command, bound, _ = app.parse_args(tokens)
    finally:
        app.config = ()
    return command, bound


def _check_encoding(tokens: Sequence[str]) -> None:
    """Refuse at once what no file of ours could hold: every result keeps the command line."""
    for token in tokens:
        try:
            token.encode()
        except UnicodeEncodeError as error:
            raise CycloptsError(f"{token!r} is not UTF-8: rename it, or write it so") from error


def _shown(answer: Answer, json: bool) -> int:
    text = json_module.dumps(answer.data, indent=1) if json else answer.text
    if text:
        write_out(text)
    return answer.code


def usage_error(error: CycloptsError) -> str:
    """What is wrong with the command line, in one line that names the page to read."""
    command = " ".join(["kvlens", *(error.command_chain or ())])
    return f"{command}: {_problem(error)} (see {command} --help)"


def _problem(error: CycloptsError) -> str:
    """What cyclopts says, without the command again and without the list of all commands."""
    if isinstance(error, UnusedCliTokensError):
        return f"unexpected {shlex.join(error.unused_tokens or ())}"
    text = " ".join(str(error).split())
    text = re.sub(r'^Command ".*?" parameter ', "", text)
    text = text.partition(" Available commands: ")[0].removesuffix(".")
    starts_a_sentence = text[:1].isupper() and text[1:2].islower()
    return text[:1].lower() + text[1:] if starts_a_sentence else text


def _in_flags(message: str, tokens: Sequence[str]) -> str:
    commands, apps, _ = app.parse_commands(tokens)
    if not commands:
        return message
    return flags_in(message, apps[-1].assemble_argument_collection())
