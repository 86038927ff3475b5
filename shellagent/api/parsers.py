"""Bodies of the API: JSON or a form, of a bounded size, so that no caller can fill the server's memory."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import FormParser, JSONParser, MultiPartParser

from shellagent import limits
from shellagent.errors import TooLargeError


def _check_size(context: Mapping[str, Any] | None) -> None:
    length = context["request"].META.get("CONTENT_LENGTH") if context else None
    if length and (not length.isdecimal() or int(length) > limits.BODY_MAX_BYTES):
        raise TooLargeError(f"A body has at most {limits.BODY_MAX_BYTES} bytes.")


class BoundedJSONParser(JSONParser):
    """JSON up to the limit. Raises TooLargeError, or ParseError also for what is nested too deeply."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        _check_size(parser_context)
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("JSON parse error - nested too deeply") from None


class BoundedFormParser(FormParser):
    """A form up to the limit. Raises TooLargeError, or ParseError for JSON, which curl sends as a form unless told."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        _check_size(parser_context)
        form = super().parse(stream, media_type, parser_context)
        if next(iter(form), "").lstrip().startswith(("{", "[")):
            raise ParseError("The body is JSON and was sent as a form. Send it with `Content-Type: application/json`.")
        return form


class BoundedMultiPartParser(MultiPartParser):
    """What the forms of the browsable pages are sent as, up to the limit. Raises TooLargeError."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        _check_size(parser_context)
        return super().parse(stream, media_type, parser_context)
