"""What `localagent status` prints for people."""

from collections.abc import Mapping
from typing import Any

from shellagent.client.terminal import without_escapes
from shellagent.host.console import shown_sizes

MEBIBYTE = 1024 * 1024


def status_text(result: Mapping[str, Any]) -> str:
    """Return a status, as its JSON has it, in lines."""
    is_running, name, identifier = result["is_running"], result["name"], result["host_id"]
    lines = {
        "local agent": f"runs with pid {result['pid']} since {result['running_seconds']} s"
        if is_running
        else "does not run; start it with `manage.py localagent start`",
        "version": f"{result['version']}, boot {result['boot_id']}",
        "host": (name or "not enrolled") + (f" ({identifier})" if identifier else ""),
        "server": f"{result['url']}: {result['server']}",
        "seen there": _reported(result["reported"]),
        "running": f"{result['journal']} sessions, {_spool(result)}",
        "protections": _protections(result) if is_running else "",
        "limits": shown_sizes(result["limits"]) if result["limits"] else "",
        "ceiling": _ceiling(result["ceiling"]),
        "last line": result["last_log_line"] or "",
    }
    return "\n".join(f"{title + ':':<13}{text}" for title, text in lines.items() if text)


def _spool(result: Mapping[str, Any]) -> str:
    size = result["spool_bytes"] / MEBIBYTE
    return f"{result['spool']} results wait for the server" + (f" ({size:.1f} MiB)" if result["spool"] else "")


def _protections(result: Mapping[str, Any]) -> str:
    if result["protections"] is None:
        return "not known yet"
    text = ", ".join(result["protections"]) or "NONE"
    return text + (f"; MISSING: {', '.join(result['protections_missing'])}" if result["protections_missing"] else "")


def _reported(reported: Mapping[str, Any] | None) -> str:
    """Return what the server knows of the host; somebody else's text, so without what acts on a terminal."""
    if reported is None:
        return ""
    skew = reported.get("clock_skew_ms")
    parts = [
        _liveness(reported),
        f"{reported.get('running')} running",
        f"{reported.get('queued')} queued",
        f"{reported.get('spool')} results not yet acknowledged",
        "clock not reported" if skew is None else f"clock {skew} ms from the server's",
    ]
    if reported.get("desired_state") == "stopped":
        parts.append("stopped by an operator")
    if error := reported.get("last_error"):
        parts.append(f"last error at {reported.get('last_error_at')}: {error}")
    return without_escapes(", ".join(parts))


def _liveness(reported: Mapping[str, Any]) -> str:
    if reported.get("online"):
        return "online"
    since = reported.get("offline_since")
    return f"offline since {since}" if since else "not heard of yet"


def _ceiling(shown: Mapping[str, Any] | None) -> str:
    if shown is None:
        return "none; what the server decides runs here"
    parts = []
    for name, value in shown.items():
        if name == "limits":
            items: Any = shown_sizes(value)
        else:
            items = [f"{one} from {where}" for one, where in value.items()] if isinstance(value, dict) else value
        parts.append(f"{name} {', '.join(items) if isinstance(items, list) else items}")
    return "; ".join(parts)
