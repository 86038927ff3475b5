"""A driver's side of the line protocol: `one` or `many N` comes in, a line of JSON for each goes out."""

import json
import sys
import time
from collections.abc import Callable


def serve(one: Callable[[], None], many: Callable[[int], None]) -> None:
    """Answer until standard input ends. The answer is `{"seconds": …}` or `{"error": …}`; the first line is `ready`."""
    print("ready", flush=True)
    for line in sys.stdin:
        word, _space, count = line.strip().partition(" ")
        begun = time.perf_counter()
        try:
            if word == "one":
                one()
            else:
                many(int(count))
            answer: dict[str, object] = {"seconds": time.perf_counter() - begun}
        except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
