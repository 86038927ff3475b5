"""What every call of the API has in common, written into its description."""

from typing import Any, Final

from atomsite.problems import CONTENT_TYPE, known_types

JSON: Final = "application/json"
#: What any call may answer: it needs a caller, reads values, and needs the database.
_EVERYWHERE = (400, 401, 403, 404, 406, 503)
#: Besides, what any call with a body may.
_WITH_BODY = (413, 415)


def problems_everywhere(result: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
    """Add the problems that any call may answer with, and give every problem its shape and media type.

    A body is described as JSON alone: the forms of the pages are for browsers, and a program that was generated from
    three descriptions of one body sends the last.
    """
    for operations in result["paths"].values():
        for method, operation in operations.items():
            responses = operation["responses"]
            wanted = _EVERYWHERE + (_WITH_BODY if method == "post" else ())
            named = (int(status) for status in responses if int(status) >= 400)
            for status in {*wanted, *named}:
                if "content" not in responses.get(str(status), {}):
                    responses[str(status)] = _problem(status)
            operation["responses"] = dict(sorted(responses.items()))
            content = operation.get("requestBody", {}).get("content", {})
            if JSON in content:
                operation["requestBody"]["content"] = {JSON: content[JSON]}
    result["components"]["schemas"]["Problem"] = _PROBLEM
    return result


def _problem(status: int) -> dict[str, Any]:
    titles = sorted(problem.title for problem in known_types().values() if problem.status == status)
    return {
        "description": "; ".join(titles) + ".",
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `type` is a URL that explains itself.",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "next_action": {"type": "string", "enum": ["wait", "revise", "stop", "none"]},
    },
    "required": ["type", "title", "status", "detail", "next_action"],
}
