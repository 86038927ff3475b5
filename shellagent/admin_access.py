"""Who sees sessions in the admin, and the session that an address names."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from shellagent.models import ShellSession


def may_view_sessions(request: HttpRequest) -> bool:
    """Return whether this person sees every session."""
    user = request.user
    return bool(user.has_perm("shellagent.view_shellsession") or user.has_perm("shellagent.approve"))


def session_seen(request: HttpRequest, session_id: UUID) -> ShellSession:
    """Return a session with its agent and host. Raises PermissionDenied for who may not see it, Http404."""
    if not may_view_sessions(request):
        raise PermissionDenied
    session = ShellSession.objects.select_related("agent", "host").filter(pk=session_id).first()
    if session is None:
        raise Http404
    return session
