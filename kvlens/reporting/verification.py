"""Verification: what was compared, with its verdict, as a value that shows itself.

It knows no file and no model: `agreement` makes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any, Literal

from kvlens.store.errors import printable
from kvlens.store.facts import CELL

Verdict = Literal["agrees", "differs", "cannot tell"]
About = Literal["file", "model", "texts", "version", "relation"]

DIGITS = "numbers may differ in the last digits"
LONGEST_VALUE = 48  # characters of a recorded value that is shown whole
SHORT = 19  # characters of a longer one, a hash, with `sha256:` before it

Row = tuple[str, str, str]
"""Verdict, what was compared, and words."""


@dataclass(frozen=True)
class Check:
    """One comparison of what was recorded with what is here.

    Attributes:
        about: the file itself, its model, its texts, a version, or its relation to another file.
        what: was compared, such as "revision" or "torch".
        verdict: how it ended.
        expected: what was recorded; empty where nothing was.
        actual: what is here; empty where nothing is.
        reason: of the verdict, in words; empty where it goes without saying.
        file: inside the verified folder.
    """

    about: About
    what: str
    verdict: Verdict
    expected: str = ""
    actual: str = ""
    reason: str = ""
    file: str = ""

    @classmethod
    def compare(
        cls, about: About, what: str, expected: str, actual: str, differs: str = "", note: str = ""
    ) -> Check:
        """The check of two texts, which agree where they are equal.

        Args:
            about: see above.
            what: see above.
            expected: see above.
            actual: see above.
            differs: the reason where they differ.
            note: the reason where they agree.
        """
        if expected == actual:
            return cls(about, what, "agrees", expected, actual, note)
        return cls(about, what, "differs", expected, actual, differs)

    @property
    def words(self) -> str:
        """What there is to say, with what was recorded and what is here where they differ."""
        if self.about == "version":
            return f"{self.what} {self.expected}, here {self.actual or 'none'}"
        if self.verdict != "differs" or not (self.expected and self.actual):
            return self.reason
        values = f"recorded {_short(self.expected)}, here {_short(self.actual)}"
        return f"{self.reason}: {values}" if self.reason else values


def _short(value: str) -> str:
    return f"{value[:SHORT]}…" if len(value) > LONGEST_VALUE else value


@dataclass(frozen=True)
class Counts:
    """How many checks ended how.

    Attributes:
        agree: with what was recorded.
        differ: from it, other versions apart.
        versions_differ: packages of another version.
        cannot_tell: since something is not here, or was not recorded.
    """

    agree: int
    differ: int
    versions_differ: int
    cannot_tell: int

    def __str__(self) -> str:
        parts = [_counted(self.agree, "check agrees", "checks agree")]
        if self.differ:
            parts.append(_counted(self.differ, "differs", "differ"))
        if self.versions_differ:
            versions = _counted(self.versions_differ, "version differs", "versions differ")
            parts.append(f"{versions} ({DIGITS})")
        if self.cannot_tell:
            parts.append(f"{self.cannot_tell} cannot be told here")
        return f"{', '.join(parts)}."


@dataclass(frozen=True)
class Verification:
    """Every check of a file or a folder.

    Attributes:
        path: what was verified.
        checks: in the order of the files, those of a file together.
    """

    path: str
    checks: tuple[Check, ...]

    def differing(self, strict: bool = False) -> tuple[Check, ...]:
        """The checks that differ; other versions count among them only if `strict`."""
        return tuple(
            check
            for check in self.checks
            if check.verdict == "differs" and (strict or check.about != "version")
        )

    @property
    def counts(self) -> Counts:
        """How many checks ended how; as text, one sentence."""
        verdicts = Counter(check.verdict for check in self.checks)
        differ = len(self.differing())
        return Counts(
            agree=verdicts["agrees"],
            differ=differ,
            versions_differ=verdicts["differs"] - differ,
            cannot_tell=verdicts["cannot tell"],
        )

    @property
    def data(self) -> dict[str, Any]:
        """The same, as JSON holds it."""
        return {**asdict(self), "counts": asdict(self.counts)}

    def rows(self) -> list[tuple[str, list[Row]]]:
        """The table: a file and its rows of verdict, what and words; what differs goes first."""
        by_file: dict[str, list[Check]] = {}
        for check in self.checks:
            by_file.setdefault(check.file, []).append(check)
        table = [(printable(file), _rows(checks)) for file, checks in by_file.items()]
        return sorted(table, key=lambda group: _rank(group[1]))

    def __str__(self) -> str:
        table = self.rows()
        width = max((len(what) for _, rows in table for _, what, _ in rows), default=0)
        lines = [printable(self.path)]
        for file, rows in table:
            lines.append(f"  {file}")
            for verdict, what, words in rows:
                lines.append(f"    {verdict:11}  {what:{width}}  {words}".rstrip())
        lines.append(str(self.counts))
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(_html_rows(file, rows) for file, rows in self.rows())
        title = f"<b>{escape(printable(self.path))}</b>"
        return f"<div>{title}<table>{body}</table>{self.counts}</div>"


def in_file(checks: Iterable[Check], file: str) -> list[Check]:
    """The checks, each with the name of its file."""
    return [replace(check, file=file) for check in checks]


def _counted(n: int, singular: str, plural: str) -> str:
    return f"{n} {singular if n == 1 else plural}"


def _rank(rows: Sequence[Row]) -> int:
    """Where a file stands: 0 with a difference, 1 with other versions alone, else 2."""
    differing = [what for verdict, what, _ in rows if verdict == "differs"]
    if not differing:
        return 2
    return 1 if differing == ["versions"] else 0


def _rows(checks: Sequence[Check]) -> list[Row]:
    """The rows of one file: each difference, each doubt, and one row of all that agrees."""
    by_verdict: dict[Verdict, list[Check]] = {"differs": [], "cannot tell": [], "agrees": []}
    versions: dict[Verdict, list[Check]] = {"differs": [], "cannot tell": [], "agrees": []}
    for check in checks:
        group = versions if check.about == "version" else by_verdict
        group[check.verdict].append(check)
    rows = _said_once(by_verdict["differs"])
    if versions["differs"]:
        others = "; ".join(check.words for check in versions["differs"])
        rows.append(("differs", "versions", f"made with {others}: {DIGITS}"))
    rows += _said_once(by_verdict["cannot tell"])
    agreeing = list(dict.fromkeys(map(_agreeing, by_verdict["agrees"])))
    if versions["agrees"]:
        agreeing.append(_counted(len(versions["agrees"]), "version", "versions"))
    if agreeing:
        rows.append(("agrees", "", ", ".join(agreeing)))
    return [(verdict, printable(what), printable(words)) for verdict, what, words in rows]


def _said_once(checks: Iterable[Check]) -> list[Row]:
    """A row a check; those of which the same is to be said share one."""
    whats: dict[tuple[str, str], list[str]] = {}
    for check in checks:
        whats.setdefault((check.verdict, check.words), []).append(check.what)
    return [(verdict, ", ".join(what), words) for (verdict, words), what in whats.items()]


def _agreeing(check: Check) -> str:
    named = check.reason and check.about != "relation"
    return f"{check.what} ({check.reason})" if named else check.what


def _html_rows(file: str, rows: Sequence[Row]) -> str:
    head = f'<tr><th colspan="3" style="{CELL}">{escape(file)}</th></tr>'
    cells = ["".join(f'<td style="{CELL}">{escape(cell)}</td>' for cell in row) for row in rows]
    return head + "".join(f"<tr>{row}</tr>" for row in cells)
