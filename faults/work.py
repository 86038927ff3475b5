"""What each session runs: it writes down in a file of its own that it began, and that it came to its end.

The harness copies this file into the hosts' folders. `python3 work.py TOKEN MODE SECONDS`; the token names the file
below `effects`, where one `begin` is one run, whatever anybody's database says. Processes are found by the token too.
"""

import os
import signal
import sys
import time

LOUD_BYTES = 1_000_000
EXIT_CODES = {"quick": 0, "sleep": 0, "loud": 0, "daemon": 0, "fail": 3}


def note(token: str, what: str) -> None:
    """Append one line; `O_APPEND` keeps two runs from writing over each other."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "effects", token)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{what} {os.getpid()}\n".encode())
    os.close(descriptor)


def leave_daemon() -> None:
    """Fork twice, in a session of its own, with an empty environment: what `killpg` and a process tree do not find."""
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.environ.clear()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(900)
    os._exit(0)


def main() -> int:
    """Do what the mode says and return the exit code."""
    token, mode, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    note(token, "begin")
    sys.stdout.write(f"{token}\n")
    sys.stdout.flush()
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "daemon":
        leave_daemon()
    if mode == "loud":
        line = b"0123456789abcde\n" * 64
        for _ in range(LOUD_BYTES // len(line)):
            sys.stdout.buffer.write(line)
        sys.stdout.flush()
    time.sleep(seconds)
    note(token, "end")
    return EXIT_CODES.get(mode, 0)


if __name__ == "__main__":
    sys.exit(main())
