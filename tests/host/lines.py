"""Lines for the comparison with bash: written by hand, and made by a seeded generator from a small grammar."""

import random
import re
from pathlib import Path
from typing import Final

#: One line each; blank ones and those that begin with `##` only part them for the reader.
WRITTEN: Final = Path(__file__).with_name("lines.txt")


def written() -> list[str]:
    """Return the lines that were written by hand."""
    return [line for line in WRITTEN.read_text().splitlines() if line and not line.startswith("##")]


FILES: Final = (
    "a.txt",
    "b.txt",
    "numbers",
    "'c d.txt'",
    "sub/one.py",
    "nofile",
    "link",
    "empty",
    "~/a.txt",
    '"$HOME"/b.txt',
)
NEW: Final = ("out", "sub/out", "a.txt", "b.txt", "nodir/out", "link", '"$PWD"/out', "dangling", "err", "'new file'")
WORDS: Final = (
    *("x", "'a b'", '"c  d"', "e\\ f", "*", "*.txt", "[a-m]*", "s*/*.py", "no*match", "~", "$HOME", '"$USER"', "$PWD"),
    *("?????", ".h*", "*/", "''", "-n", "-e", "'a\\tb'", "[!a-b]*", "é*", "*[0-9]*", "./*", "[[:upper:]]*"),
)
FOLDERS: Final = ("sub", "sub/deep", "dirlink", "nodir", "other", ".", "~", "~/sub", "a.txt", "emptydir", "$PWD")
SOURCES: Final = (
    *("cat {file}", "cat {file} {file}", "echo {words}", "seq {number}", "printf '%s\\n' {words}", "ls -d {words}"),
    *("sort {file}", "head -n 2 {file}", "grep -n a {file}", "wc -l {file}", "pwd", "true", "false", ":", "nosuch"),
    *(
        "./run.sh {number}",
        "./plain",
        "seq 30000",
        "cd {folder}",
        "test -e {file}",
        "[ {number} -lt 20 ]",
        "! cat {file}",
    ),
)
FILTERS: Final = (
    *(
        "cat",
        "sort",
        "sort -r",
        "head -n 1",
        "tail -n 2",
        "wc -l",
        "grep a",
        "tr a-z A-Z",
        "uniq",
        "cut -c 1-3",
        "tee {new}",
    ),
    *(
        "cat -n",
        "sed -n 1p",
        "true",
        "false",
        "head -c 5",
        "cat {file} -",
        "nosuch",
        "./slow.sh",
        "echo {words}",
        "tac",
    ),
)
CHANGES: Final = ("touch {new}", "rm {file}", "cp {file} {new}", "mv {file} {new}", "mkdir made", "rmdir emptydir")
REDIRECTS: Final = (
    *(
        "> {new}",
        ">> {new}",
        "< {file}",
        "2> {new}",
        "2>&1",
        ">&2",
        "2>/dev/null",
        ">| {new}",
        "> /dev/null",
        "&> {new}",
    ),
)


PLACES: Final = {"file": FILES, "new": NEW, "folder": FOLDERS, "number": ("3", "7", "50", "20000")}
#: Names of one file.
SAME: Final = {"link": "a.txt", "~/a.txt": "a.txt", '"$HOME"/b.txt': "b.txt", '"$PWD"/out': "out"}


class Generator:
    """Makes lines; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 - lines for a test

    def line(self) -> str:
        """Return the next line."""
        text = self.pipeline()
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3))):
            text += self.random.choice((" && ", " || ", "; ")) + self.pipeline()
        return text

    def pipeline(self) -> str:
        """Return a command, or some with pipes between them."""
        if self.random.random() < 0.1:
            return self.command(CHANGES)[0]
        commands = [self.command(SOURCES)]
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3))):
            command = self.command(FILTERS)
            # Two commands that run at once and meet in a file race without end.
            while any(_meet(command[1], uses) for _, uses in commands):
                command = self.command(FILTERS)
            commands.append(command)
        text = " | ".join(text.removeprefix("! ") for text, _ in commands)
        return f"! {text}" if self.random.random() < 0.08 else text

    def command(self, templates: tuple[str, ...]) -> tuple[str, set[tuple[str, bool]]]:
        """Return a command with some redirects, and the files that it names, each with whether it is written."""
        text = self.random.choice(templates)
        for _ in range(self.random.choice((0, 0, 0, 1, 1, 2))):
            text += " " + self.random.choice(REDIRECTS)
        uses: set[tuple[str, bool]] = set()
        while (place := re.search(r"\{(\w+)\}", text)) is not None:
            chosen = self.chosen(place[1])
            if place[1] in ("file", "new"):
                uses.add((SAME.get(chosen, chosen), place[1] == "new"))
            text = text[: place.start()] + chosen + text[place.end() :]
        return text, uses

    def chosen(self, kind: str) -> str:
        """Return what stands for a place in a template."""
        if kind == "words":
            return " ".join(self.random.choices(WORDS, k=self.random.randint(1, 3)))
        return str(self.random.choice(PLACES[kind]))


def _meet(one: set[tuple[str, bool]], other: set[tuple[str, bool]]) -> bool:
    return any(name == known and (writes or written) for name, writes in one for known, written in other)
