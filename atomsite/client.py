"""`/atom`: the command line as one file, for machines that have nothing of this product. Unauthenticated."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from shellagent.client_file import NAME, client_digest, client_file


@require_safe
def client(request: HttpRequest) -> HttpResponse:
    """Answer with the file."""
    headers = {"Content-Disposition": f'attachment; filename="{NAME}"', "ETag": f'"{client_digest()}"'}
    return HttpResponse(client_file(), content_type="application/octet-stream", headers=headers)


@require_safe
def digest(request: HttpRequest) -> HttpResponse:
    """Answer with its SHA-256, as `sha256sum --check` reads it."""
    return HttpResponse(f"{client_digest()}  {NAME}\n", content_type="text/plain; charset=utf-8")
