"""What a plan may reach on this host, asked of real paths: what was granted, and never what is protected.

The sandbox holds what a program opens; this holds what the host itself opens and lists for a plan, and where it goes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from governance.policy.paths import Protection, is_within
from governance.policy.types import Access, Facts
from shellagent.protocol import PathGrant


def shown(text: str) -> str:
    """Return a name for a message: printable, and without bytes that are not UTF-8."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


@dataclass(frozen=True, slots=True)
class Reach:
    """Real paths. `readable` are what was granted and the system's own folders; `folders` are where a plan may be."""

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    folders: tuple[str, ...]
    protection: Protection
    facts: Facts

    @classmethod
    def of(
        cls,
        grants: Iterable[PathGrant],
        real_roots: Sequence[str],
        *,
        scratch: str,
        system: Sequence[str],
        protection: Protection,
        facts: Facts,
    ) -> "Reach":
        """Return the reach of a plan; `real_roots` are the real paths of its grants, in their order."""
        writable = tuple(root for root, grant in zip(real_roots, grants, strict=True) if grant.access == Access.WRITE)
        return cls((*real_roots, *system), writable, (*real_roots, scratch), protection, facts)

    def protection_of(self, path: str, access: Access) -> str:
        """Return in a sentence why a real path is protected, or an empty text."""
        reason = self.protection.reason(path, access, self.facts)
        return f"{shown(path)} is protected. {reason}" if reason else ""

    def protection_of_match(self, path: str) -> str:
        """Return why a pattern may not stand for a real path: what could be written there counts too."""
        is_writable = self.root_of(path, Access.WRITE) is not None
        return self.protection_of(path, Access.WRITE if is_writable else Access.READ)

    def root_of(self, path: str, access: Access) -> str | None:
        """Return the root that opens a real path, or None. The innermost one, so that the way from it is short."""
        roots = self.writable if access is Access.WRITE else self.readable
        return max((root for root in roots if is_within(path, root)), key=len, default=None)

    def refusal(self, path: str, access: Access) -> str:
        """Return in a sentence why a real path may not be opened, or an empty text."""
        if protected := self.protection_of(path, access):
            return protected
        if self.root_of(path, access) is None:
            return f"{shown(path)} is outside the folders that were granted for {_DOING[access]}."
        return ""

    def refusal_to_enter(self, path: str) -> str:
        """Return in a sentence why a real path may not be the working directory, or an empty text."""
        if reason := self.protection.reason(path, Access.READ, self.facts):
            return f"The working directory {shown(path)} is protected on this host. {reason}"
        if not any(is_within(path, root) for root in self.folders):
            return f"The working directory {shown(path)} is outside the folders that were granted."
        return ""


_DOING = {Access.READ: "reading", Access.WRITE: "writing"}
