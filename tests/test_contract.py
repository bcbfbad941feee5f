"""What rooms may not do: name a flag of the terminal, or register a hook."""

import ast
import re
import tokenize
from pathlib import Path

from kvlens.cli.app import app

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kvlens"
HOOKING = PACKAGE / "models" / "turns.py"
REGISTERS = ("register_forward_hook", "register_forward_pre_hook", "add_hook", "run_with_hooks")
WORDS = ("STRING", "FSTRING_MIDDLE", "COMMENT")


def flags():
    """Every flag of every command, taken from the terminal itself."""
    names = {"--json", "--debug", "--install-completion"}
    for name in app:
        if not name.startswith("-"):
            for argument in app[name].assemble_argument_collection():
                names.update(set(argument.names) - set(argument.negatives))
    return {name for name in names if name.startswith("-")}


def words(path):
    """(line, text) of every string and comment of a module; of every line of a page or a script."""
    if path.suffix != ".py":
        yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        return
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if tokenize.tok_name[token.type] in WORDS:
                yield token.start[0], token.string


def modules(*folders):
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def place(path, line):
    return f"{path.relative_to(ROOT)}:{line}"


def test_only_the_terminal_names_its_flags():
    named = re.compile(rf"(?<![\w-])({'|'.join(sorted(flags(), key=len, reverse=True))})(?![\w-])")
    outside = [
        path
        for suffix in ("py", "html", "js")
        for path in sorted(PACKAGE.rglob(f"*.{suffix}"))
        if not path.is_relative_to(PACKAGE / "cli")
    ]
    assert len(outside) > 80
    assert {"--overwrite", "-o", "-i", "--no-model", "--max-length", "--pairs"} <= flags()
    found = [
        f"{place(path, line)}: {match[0]}"
        for path in outside
        for line, text in words(path)
        for match in named.finditer(text)
    ]
    assert not found, "\n".join(found)


def registers_a_hook(node):
    """Is this node of a syntax tree a hook's registration, or a replaced ``forward``?"""
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(to, ast.Attribute) and to.attr == "forward" for to in targets)
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Name):
        names = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        return node.func.id == "setattr" and "forward" in names
    if not isinstance(node.func, ast.Attribute):
        return False
    keywords = {keyword.arg for keyword in node.keywords}
    hooks = node.func.attr == "hooks" and keywords & {"fwd_hooks", "bwd_hooks"}
    return node.func.attr in REGISTERS or bool(hooks)


def hooks_in(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return sorted(node.lineno for node in ast.walk(tree) if registers_a_hook(node))


def test_only_a_turn_registers_hooks():
    """So none is seen by another thread's passes, and none is left."""
    found = [
        place(path, line)
        for path in modules(PACKAGE, ROOT / "figures")
        if path != HOOKING
        for line in hooks_in(path)
    ]
    assert not found, "\n".join(found)


def test_the_contract_sees_hooks_and_flags(tmp_path):
    """Else it would hold for an empty room."""
    assert len(hooks_in(HOOKING)) >= 3
    bad = tmp_path / "bad.py"
    bad.write_text(
        "block.register_forward_hook(f)\n"
        "block.forward = f\n"
        "setattr(block, 'forward', f)\n"
        "with bridge.hooks(fwd_hooks=[]): pass\n"
        "block.hooks()  # give --overwrite\n"
    )
    assert hooks_in(bad) == [1, 2, 3, 4]
    assert list(words(bad)) == [(3, "'forward'"), (5, "# give --overwrite")]
