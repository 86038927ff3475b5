"""Notifications in the admin: sinks, quiet hours, callbacks, and the log of messages."""

from shellagent.notifying.admin_callbacks import CallbackPlaceAdmin, CallbackSecretAdmin
from shellagent.notifying.admin_messages import MessageAdmin
from shellagent.notifying.admin_sinks import PreferenceAdmin, SinkAdmin

__all__ = ["CallbackPlaceAdmin", "CallbackSecretAdmin", "MessageAdmin", "PreferenceAdmin", "SinkAdmin"]
