"""A repository that names programs in every way that git knows. Each of them leaves a mark; nothing else does."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Settings that are overruled: git runs as if they were not there.
OVERRULED: Final = """
[core]
    fsmonitor = {evil}
    hooksPath = {hooks}
    pager = {evil}
    editor = {evil}
    sshCommand = {evil}
    gitProxy = {evil}
    askPass = {evil}
[pager]
    log = {evil}
    status = true
[sequence]
    editor = {evil}
[credential]
    helper = {evil}
[diff]
    external = {evil}
    submodule = diff
[diff "evil"]
    textconv = {evil}
    command = {evil}
[merge "evil"]
    driver = {evil} %A
[log]
    showSignature = true
    diffMerges = remerge
[gpg]
    program = {evil}
[gpg "ssh"]
    program = {evil}
    defaultKeyCommand = {evil}
[status]
    submoduleSummary = true
[submodule]
    recurse = true
[alias]
    status = !{evil}
    log = !{evil}
[protocol]
    allow = always
[protocol "ext"]
    allow = always
[extensions]
    partialClone = origin
[remote "origin"]
    url = "ext::{evil} %S"
    promisor = true
    uploadpack = {evil}
    vcs = evil
"""
#: Settings that can only be refused.
REFUSED: Final = {
    "clean": '[filter "evil"]\n clean = {evil}\n',
    "smudge": '[filter "evil"]\n smudge = {evil}\n',
    "process": '[filter "evil"]\n process = {evil}\n required\n',
    "hook": '[hook "evil"]\n command = {evil}\n event = post-index-change\n',
    "trailer": '[trailer "evil"]\n command = {evil}\n',
    "include": "[include]\n path = {included}\n",
    "conditional include": '[includeIf "gitdir:**"]\n path = {included}\n',
}
HOOKS: Final = "post-checkout post-index-change reference-transaction pre-commit fsmonitor-watchman query-watchman"


def git(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[bytes]":
    """Run git as a person's shell would, with nothing switched off."""
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=env or plain_environment(folder),
        capture_output=True,
        check=False,
        timeout=20,
    )


def plain_environment(folder: Path) -> dict[str, str]:
    """Return what a command has around it on a host."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class Hostile:
    """The repository, its programs, and the file that each of them makes."""

    folder: Path
    evil: Path
    marker: Path

    def configure(self, text: str, *, more: bool = False) -> None:
        """Write the repository's configuration anew, or add to it."""
        places = {
            "evil": str(self.evil),
            "hooks": str(self.folder.parent / "hooks"),
            "included": str(self.folder.parent / "included"),
        }
        for name, value in places.items():
            text = text.replace("{" + name + "}", value)
        config = self.folder / ".git/config"
        before = config.read_text() if more else "[core]\n repositoryformatversion = 1\n bare = false\n"
        config.write_text(before + text)

    def touch(self) -> None:
        """Make git look at the files again."""
        (self.folder / "file").write_text("changed\n")
        # Unchanged, so that only its content can tell.
        os.utime(self.folder / ".gitattributes")
        os.utime(self.folder / "sub/inside")

    def was_run(self) -> bool:
        """Return whether a program of the repository's was run, and forget it."""
        was_run = self.marker.exists()
        self.marker.unlink(missing_ok=True)
        return was_run


def make(base: Path) -> Hostile:
    """Make the repository: two branches merged with a conflict, a signed commit, a stash, a tag, a submodule."""
    folder, marker, evil = base / "repo", base / "marker", base / "evil"
    evil.write_text(f'#!/bin/sh\ntouch {marker}\ncat "$1" 2>/dev/null\nexit 0\n')
    evil.chmod(0o755)
    folder.mkdir()
    hooks = base / "hooks"
    hooks.mkdir()
    for name in HOOKS.split():
        os.link(evil, hooks / name)
    (base / "included").write_text(f'[filter "evil"]\n clean = {evil}\n')
    (folder / "sub").mkdir()
    for place in (folder / "sub", folder):
        git(place, "init", "-q", "-b", "main")
        git(place, "config", "user.name", "a")
        git(place, "config", "user.email", "a@b")
        (place / ("inside" if place.name == "sub" else "file")).write_text("one\n")
        git(place, "add", ".")
        git(place, "commit", "-q", "-m", "one")
    (folder / ".gitattributes").write_text("* diff=evil filter=evil merge=evil\n")
    (folder / ".git/info/attributes").write_text("* diff=evil filter=evil merge=evil\n")
    (folder / ".gitmodules").write_text('[submodule "sub"]\n path = sub\n url = ./sub\n ignore = none\n')
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "two")
    git(folder, "checkout", "-q", "-b", "side")
    (folder / "file").write_text("side\n")
    git(folder, "commit", "-q", "-a", "-m", "side")
    git(folder, "checkout", "-q", "main")
    (folder / "file").write_text("main\n")
    git(folder, "commit", "-q", "-a", "-m", "main")
    git(folder, "merge", "-q", "-m", "merged", "-s", "ours", "side")
    (folder / "file").write_text("stashed\n")
    git(folder, "stash", "push", "-q", "file")
    git(folder, "tag", "-a", "v1", "-m", "v1")
    signed = git(folder, "cat-file", "commit", "HEAD").stdout.replace(
        b"\n\n", b"\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n", 1
    )
    (base / "signed").write_bytes(signed)
    name = git(folder, "hash-object", "-t", "commit", "-w", str(base / "signed")).stdout.decode().strip()
    git(folder, "update-ref", "refs/heads/main", name)
    submodule = folder / "sub/.git/config"
    submodule.write_text(
        submodule.read_text()
        + f'[core]\n fsmonitor = {evil}\n[diff]\n external = {evil}\n[filter "evil"]\n clean = {evil}\n'
    )
    (folder / "sub/.gitattributes").write_text("* filter=evil diff=evil\n")
    return Hostile(folder, evil, marker)


def plant_bare(folder: Path, evil: Path) -> None:
    """Make a folder that git takes for a bare repository, whose files are the folder itself."""
    (folder / "objects").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "config").write_text(
        f"[core]\n repositoryformatversion = 0\n bare = false\n worktree = .\n fsmonitor = {evil}\n"
    )
