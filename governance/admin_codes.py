"""The page on which a person sets up one-time codes, and superusers take lost ones away."""

from base64 import b32encode
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.utils.safestring import mark_safe
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods
from django_otp.plugins.otp_totp.models import TOTPDevice

from governance.admin_agents import person, told
from governance.codes import code_begin, code_check, code_remove, code_set, has_begun, has_code, people_with_codes
from governance.errors import ForbiddenError


class CodeForm(forms.Form):
    """What is wanted, and the code or password that it takes."""

    action = forms.ChoiceField(choices=[(name, name) for name in ("begin", "set", "remove")])
    code = forms.CharField(max_length=12, required=False)
    password = forms.CharField(max_length=4096, required=False, strip=False)
    user = forms.IntegerField(required=False)


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables()
def code_view(request: HttpRequest) -> HttpResponse:
    """Show whether codes are set up, and how to; begin, end or take them away by POST.

    The secret stands in the answer to the POST that begins, and nowhere else.
    """
    user = person(request)
    if request.method != "POST":
        return _page(request, user)
    form = CodeForm(request.POST)
    values = form.cleaned_data if form.is_valid() else {"action": ""}
    if values["action"] == "begin" and told(request, lambda: _prove(request, user, values)):
        return _page(request, user, code_begin(user))
    if values["action"] == "set":
        told(request, lambda: code_set(user, values["code"]), "One-time codes are set up.")
    elif values["action"] == "remove":
        whose = get_object_or_404(User, pk=values["user"] or 0)
        done = f"{whose.get_username()} has no authenticator any more, and can set up another one."
        told(request, lambda: code_remove(user=whose, actor=user), done)
    return redirect("code")


def _prove(request: HttpRequest, user: User, values: dict[str, Any]) -> None:
    """Take what shows that it is this person: a code of the authenticator to be replaced, else the password."""
    if has_code(user):
        code_check(user, values["code"])
    elif authenticate(request, username=user.get_username(), password=values["password"]) != user:
        raise ForbiddenError("The password is wrong, or this login is locked for a while.")


def _page(request: HttpRequest, user: User, device: TOTPDevice | None = None) -> HttpResponse:
    context = {
        **admin.site.each_context(request),
        "title": "One-time codes",
        "has_code": has_code(user),
        "has_begun": has_begun(user),
        "others": people_with_codes(but=user) if user.is_superuser else [],
    }
    if device is not None:
        # Four mebibytes in a process that may never draw one.
        import segno  # noqa: PLC0415

        drawn = segno.make(device.config_url).svg_inline(scale=5, light="#fff")
        # Drawn by segno from an address of ours: there is nothing of anybody else's in it.
        context |= {"drawn": mark_safe(drawn), "secret": b32encode(device.bin_key).decode()}  # noqa: S308
    response = TemplateResponse(request, "admin/code.html", context)
    response["Cache-Control"] = "no-store"
    return response
