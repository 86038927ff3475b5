"""The verifier of exports: three modules without the product, and the one script that they are handed out as."""

import ast
from pathlib import Path
from typing import Final

_MODULES: Final = ("forms", "bundle", "command")


def script() -> str:
    """Return the modules as one script, for Python 3.9 or later: what they import of each other is left out."""
    folder = Path(__file__).parent
    texts = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in _MODULES}
    imports: dict[str, None] = {}
    bodies = []
    for text in texts.values():
        lines, cut = text.splitlines(), 0
        for node in ast.parse(text).body:
            is_docstring = isinstance(node, ast.Expr) and node.lineno == 1
            if not is_docstring and not isinstance(node, ast.Import | ast.ImportFrom):
                break
            cut = node.end_lineno or 0
            source = "\n".join(lines[node.lineno - 1 : cut])
            if not is_docstring and not (isinstance(node, ast.ImportFrom) and str(node.module).startswith("audit")):
                imports[source] = None
        bodies.append("\n".join(lines[cut:]).strip())
    first = "from __future__ import annotations"
    head = [ast.get_source_segment(texts["command"], ast.parse(texts["command"]).body[0]) or "", first]
    rest = sorted(line for line in imports if line != first)
    return "#!/usr/bin/env python3\n" + "\n\n".join([*head, "\n".join(rest)]) + "\n\n\n" + "\n\n\n".join(bodies) + "\n"
