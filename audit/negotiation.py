"""Answers that have a form of their own, whatever is accepted."""

from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class AsItIs(BaseContentNegotiation):
    """Errors are JSON whatever is accepted, and a `format` in the address is the view's own."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> tuple[Any, str]:
        renderer: BaseRenderer = renderers[0]
        return renderer, str(renderer.media_type)
