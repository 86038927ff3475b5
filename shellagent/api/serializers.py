"""The bodies that the API takes and gives, for validation, the schema and the browsable forms."""

import itertools
from collections.abc import Sequence
from typing import Any

from rest_framework import serializers

from audit.api import AskedTimeField
from shellagent import limits
from shellagent.services.recording import STREAMS
from shellagent.states import AuditMode, Status


def check_env(value: dict[str, str]) -> None:
    """Refuse too many names, and names that are none. Raises ValidationError."""
    if len(value) > limits.ENV_MAX:
        raise serializers.ValidationError(f"At most {limits.ENV_MAX} variables.")
    for name, text in value.items():
        if not name.isidentifier() or not name.isascii():
            raise serializers.ValidationError(f"{name!r} is not a variable's name.")
        if "\0" in text:
            raise serializers.ValidationError(f"The value of {name} holds a NUL.")


class AskedField(serializers.ChoiceField):
    """One of a few words that a caller sends. An error names them all."""

    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        super().__init__(choices, **options)
        self.error_messages["invalid_choice"] = f"{{input!r}} is none of these: {', '.join(choices)}."


class ExecuteSerializer(serializers.Serializer[Any]):
    """Ask for a command: one of `command` and `argv`."""

    command = serializers.CharField(
        required=False, trim_whitespace=False, help_text="One line of text, as it would be typed: `ls -l /tmp`."
    )
    argv = serializers.ListField(
        child=serializers.CharField(allow_blank=True, trim_whitespace=False),
        required=False,
        max_length=limits.ARGV_MAX,
        help_text='The program and its arguments as a list, taken literally: ["ls", "-l", "/tmp"].',
    )
    working_directory = serializers.CharField(
        required=False, allow_blank=True, max_length=4096, trim_whitespace=False, help_text="Absolute."
    )
    timeout_seconds = serializers.IntegerField(
        required=False,
        default=limits.TIMEOUT_DEFAULT_SECONDS,
        min_value=1,
        max_value=limits.TIMEOUT_MAX_SECONDS,
    )
    host = serializers.CharField(required=False, allow_blank=True, max_length=60, help_text="Its id or name.")
    reason = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=limits.REASON_MAX_CHARACTERS,
        help_text="Why; shown to the approver as the agent's own words.",
    )
    env = serializers.DictField(
        child=serializers.CharField(
            allow_blank=True, max_length=limits.ENV_VALUE_MAX_CHARACTERS, trim_whitespace=False
        ),
        required=False,
        validators=[check_env],
        help_text="Environment variables for the command.",
    )
    secrets = serializers.ListField(
        child=serializers.RegexField(r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z"),
        required=False,
        max_length=limits.SECRETS_MAX,
        help_text="Names of secrets. The host gives their values, which the server never has, as variables.",
    )
    callback_url = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=500,
        help_text="Where to tell of its end, by a signed POST; below an address that an operator allows.",
    )
    agent_id = serializers.IntegerField(required=False, help_text="People only: in which agent's name.")
    wait_seconds = serializers.IntegerField(
        required=False,
        default=0,
        min_value=0,
        max_value=limits.WAIT_MAX_SECONDS,
        help_text="How long to hold the answer for the result.",
    )


class DryRunSerializer(serializers.Serializer[Any]):
    """Ask what governance would say."""

    command = ExecuteSerializer().fields["command"]
    argv = ExecuteSerializer().fields["argv"]
    working_directory = ExecuteSerializer().fields["working_directory"]
    host = ExecuteSerializer().fields["host"]
    env = ExecuteSerializer().fields["env"]
    secrets = ExecuteSerializer().fields["secrets"]


class ApproveSerializer(serializers.Serializer[Any]):
    """Decide on a session that waits."""

    session_id = serializers.UUIDField()
    decision = AskedField(choices=["approve", "reject"])
    reason = serializers.CharField(
        required=False, allow_blank=True, max_length=limits.REASON_MAX_CHARACTERS, help_text="Required to reject."
    )
    digest = serializers.RegexField(
        r"^[0-9a-f]{64}\Z", required=False, help_text="Of what you saw; the decision is refused where it changed."
    )
    code = serializers.CharField(
        required=False, allow_blank=True, max_length=12, help_text="A one-time code, to approve where one is needed."
    )


class CancelSerializer(serializers.Serializer[Any]):
    """Cancel a session."""

    reason = serializers.CharField(required=False, allow_blank=True, max_length=limits.REASON_MAX_CHARACTERS)


class ControlSerializer(serializers.Serializer[Any]):
    """Name a host."""

    host = serializers.CharField(max_length=60, help_text="Its id or name.")


class KillSwitchSerializer(serializers.Serializer[Any]):
    """Switch it on or off: for a host, for an agent, or with neither for everything."""

    state = AskedField(choices=["on", "off"])
    reason = serializers.CharField(max_length=limits.REASON_MAX_CHARACTERS, help_text="Everybody reads it.")
    host = serializers.CharField(required=False, allow_blank=True, max_length=60, help_text="Its id or name.")
    agent = serializers.CharField(required=False, allow_blank=True, max_length=60, help_text="Its id or name.")


class SessionFilterSerializer(serializers.Serializer[Any]):
    """What the list of sessions can be narrowed to."""

    status = AskedField(choices=[item.value for item in Status], required=False)
    agent = serializers.CharField(required=False, max_length=60, help_text="Its id or name.")
    host = serializers.CharField(required=False, max_length=60, help_text="Its id or name.")
    category = serializers.CharField(required=False, max_length=10)
    created_after = AskedTimeField(required=False)
    created_before = AskedTimeField(required=False)


class ReadSerializer(serializers.Serializer[Any]):
    """How a session is read."""

    wait_seconds = serializers.IntegerField(required=False, default=0, min_value=0, max_value=limits.WAIT_MAX_SECONDS)
    encoding = AskedField(choices=["text", "base64"], required=False, default="text")


class FollowSerializer(ReadSerializer):
    """Which part of a session's output is read. `after` becomes the offset of each stream that is wanted."""

    after = serializers.RegexField(
        r"^\d{1,15}(,\d{1,15})?\Z",
        required=False,
        default="0",
        help_text="The offset to read from, or two with a comma between them: for stdout and for stderr.",
        error_messages={"invalid": "One offset, or two with a comma between them, such as 0,0."},
    )
    stream = AskedField(choices=list(STREAMS), required=False, help_text="One stream only.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        offsets = [int(text) for text in attrs["after"].split(",")]
        streams = [attrs["stream"]] if "stream" in attrs else list(STREAMS)
        if len(offsets) > len(streams):
            raise serializers.ValidationError({"after": "One stream has one offset."})
        # Where only one offset is given it is that of stdout, and stderr is read from its beginning.
        attrs["after"] = dict(itertools.zip_longest(streams, offsets, fillvalue=0))
        return attrs


class NamedSerializer(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    name = serializers.CharField()


class SessionAgentSerializer(NamedSerializer):
    maturity = serializers.CharField()


class ApprovalSerializer(serializers.Serializer[Any]):
    required = serializers.BooleanField()  # type: ignore[assignment]  # a field of that name, not the flag
    by = serializers.CharField(allow_null=True)
    decision = serializers.CharField(allow_null=True)
    reason = serializers.CharField(allow_null=True)
    decided_at = serializers.DateTimeField(allow_null=True)
    people_required = serializers.IntegerField(allow_null=True, help_text="While it waits: how many have to approve.")
    people_given = serializers.IntegerField(help_text="How many have approved exactly this.")
    code_required = serializers.BooleanField(
        allow_null=True, help_text="While it waits: whether an approval takes a one-time code."
    )


class DecisionSerializer(serializers.Serializer[Any]):
    """What governance says, and why: the same object everywhere."""

    outcome = serializers.ChoiceField(choices=["allow", "ask", "deny"])
    category = serializers.CharField()
    plan = serializers.DictField()
    tokens = serializers.ListField(child=serializers.DictField())
    rules = serializers.ListField(child=serializers.DictField())
    explanation = serializers.CharField()
    would_allow = serializers.CharField(allow_blank=True)
    policy_version = serializers.CharField()
    grants = serializers.ListField(child=serializers.DictField())
    obligations = serializers.ListField(child=serializers.CharField())


class HostSerializer(NamedSerializer):
    """A host as people see it."""

    enabled = serializers.BooleanField()
    enrolled = serializers.BooleanField()
    online = serializers.BooleanField(help_text="Heard of within 30 seconds.")
    last_seen_at = serializers.DateTimeField(allow_null=True)
    offline_since = serializers.DateTimeField(
        allow_null=True, help_text="When it was last heard of, where it is not now."
    )
    desired_state = serializers.ChoiceField(choices=["running", "stopped"])
    audit_mode = serializers.ChoiceField(choices=[item.value for item in AuditMode])
    version = serializers.CharField(allow_blank=True)
    boot_id = serializers.CharField(allow_blank=True)
    clock_skew_ms = serializers.IntegerField(
        allow_null=True, help_text="How far its clock is ahead of the server's; negative where it is behind."
    )
    running = serializers.IntegerField(help_text="Claimed or running.")
    queued = serializers.IntegerField(help_text="Waiting for this host.")
    spool = serializers.IntegerField(help_text="Results that wait on the host to be acknowledged.")
    protections = serializers.ListField(child=serializers.CharField())
    protections_missing = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="Those that a machine can have and this one does not; null before it was first heard of.",
    )
    limits = serializers.DictField(
        child=serializers.IntegerField(),
        allow_null=True,
        help_text="What one session may take of it, and results that wait: each name ends with its unit.",
    )
    another_instance_refused_at = serializers.DateTimeField(
        allow_null=True, help_text="When a second live process with its key was last refused: it may be a copy."
    )
    last_error = serializers.CharField(allow_null=True, help_text="The last thing that went wrong there.")
    last_error_at = serializers.DateTimeField(allow_null=True)


class ControlledHostSerializer(HostSerializer):
    spawned = serializers.BooleanField(required=False, help_text="Whether its process was started here.")


class CountsSerializer(serializers.Serializer[Any]):
    pending = serializers.IntegerField()
    queued = serializers.IntegerField()
    claimed = serializers.IntegerField()
    running = serializers.IntegerField()


class StopSerializer(serializers.Serializer[Any]):
    """A kill switch that is on."""

    scope = serializers.ChoiceField(choices=["everything", "host", "agent"])
    subject = serializers.CharField(allow_null=True)
    reason = serializers.CharField()
    by = serializers.CharField()
    since = serializers.DateTimeField()


class AnchorSerializer(serializers.Serializer[Any]):
    """A place that checkpoints are published at."""

    name = serializers.CharField()
    published_seconds = serializers.IntegerField(allow_null=True, help_text="How long ago it got something.")
    behind = serializers.IntegerField(help_text="Checkpoints that it has not got yet.")
    error = serializers.CharField(allow_blank=True)
    failing_seconds = serializers.IntegerField(allow_null=True, help_text="For how long it fails.")


class StatusSerializer(serializers.Serializer[Any]):
    """Whether commands can run."""

    hosts = HostSerializer(many=True)
    sessions = CountsSerializer()
    database = serializers.ChoiceField(choices=["ok"])
    worker = serializers.ChoiceField(choices=["ok", "late", "not scheduled"])
    audit = serializers.ChoiceField(
        choices=["ok", "late", "unsound", "failed"],
        help_text="`late`: events wait to be sealed, or cannot be. `unsound`: the trail is not what was written. "
        "`failed`: it cannot be kept, and nothing new runs.",
    )
    anchors = AnchorSerializer(many=True, help_text="For people with `audit.view_audit`; empty for others.")
    kill_switch = StopSerializer(many=True, help_text="Those that are on; empty where nothing is stopped.")
    time = serializers.DateTimeField()


class OutputPartSerializer(serializers.Serializer[Any]):
    offset = serializers.IntegerField()
    bytes = serializers.IntegerField()
    text = serializers.CharField(allow_blank=True, help_text="In base64 where that was asked for.")


class OffsetsSerializer(serializers.Serializer[Any]):
    stdout = serializers.IntegerField(required=False)
    stderr = serializers.IntegerField(required=False)


class OutputSerializer(serializers.Serializer[Any]):
    """A session's stored output; where one part does not follow the one before it, the middle was cut."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=[item.value for item in Status])
    finished = serializers.BooleanField(help_text="Whether nothing follows.")
    next = OffsetsSerializer(help_text="The offsets to ask for next, by stream.")
    stdout = OutputPartSerializer(many=True)
    stderr = OutputPartSerializer(many=True)


class ScriptSerializer(serializers.Serializer[Any]):
    path = serializers.CharField()
    sha256 = serializers.CharField(
        allow_null=True, help_text="Of its content when a person was to decide, or `absent`; null: it is not known."
    )


class ReceiptSerializer(serializers.Serializer[Any]):
    """What shows later that an event was written: keep it, and ask `auditverify --entry` for its uid."""

    uid = serializers.UUIDField(help_text="The event's.")
    hash = serializers.CharField(help_text="SHA-256 of the event's body, hexadecimal.")
    signature = serializers.CharField(help_text="The server's over the hash; docs/reference/audit.md has its form.")


class SessionSerializer(serializers.Serializer[Any]):
    """A session, as `representation.session_json` writes it."""

    id = serializers.UUIDField()
    agent = SessionAgentSerializer()
    host = NamedSerializer()
    host_online = serializers.BooleanField(help_text="Heard of within 30 seconds.")
    status = serializers.ChoiceField(choices=[item.value for item in Status])
    command = serializers.CharField(allow_null=True)
    argv = serializers.ListField(child=serializers.CharField(), allow_null=True)
    plan = serializers.DictField(allow_null=True)
    env = serializers.DictField(child=serializers.CharField(), allow_null=True)
    secrets = serializers.ListField(child=serializers.CharField(), help_text="Names; the host has the values.")
    scripts = ScriptSerializer(many=True, help_text="Files of code that it runs.")
    reason = serializers.CharField(allow_null=True, allow_blank=True, help_text="The agent's words, unverified.")
    callback_url = serializers.CharField(allow_null=True, help_text="Where its end is told.")
    working_directory = serializers.CharField(allow_null=True)
    timeout_seconds = serializers.IntegerField()
    category = serializers.CharField()
    decision = DecisionSerializer(allow_null=True)
    policy_version = serializers.CharField()
    digest = serializers.CharField(help_text="Of exactly what would run; send it with an approval.")
    requester = serializers.CharField()
    approval = ApprovalSerializer()
    approval_required = serializers.BooleanField(help_text="Whether it waits for a person now.")
    approve_url = serializers.CharField(allow_null=True)
    exit_code = serializers.IntegerField(allow_null=True, help_text="The plan's own.")
    exit_codes = serializers.ListField(
        child=serializers.IntegerField(allow_null=True),
        help_text="One a command, in the order in which they are written; null for one that did not run to its end.",
    )
    stdout_bytes = serializers.IntegerField(allow_null=True)
    stderr_bytes = serializers.IntegerField(allow_null=True)
    truncated = serializers.BooleanField()
    duration_seconds = serializers.FloatField(allow_null=True)
    protections = serializers.ListField(child=serializers.CharField(), help_text="Active, as the host reports.")
    left_behind = serializers.ListField(child=serializers.IntegerField(), help_text="Process ids still alive.")
    rung = serializers.CharField(allow_null=True, help_text="How far the ending had to go: none, term, kill or sweep.")
    late = serializers.DictField(allow_null=True, help_text="A result that came after the session was lost.")
    stdout = serializers.CharField(allow_blank=True)
    stderr = serializers.CharField(allow_blank=True)
    timed_out = serializers.BooleanField()
    termination_reason = serializers.CharField(allow_null=True)
    termination_detail = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    next_action = serializers.ChoiceField(choices=["wait", "revise", "stop", "none"])
    poll_after_seconds = serializers.IntegerField(allow_null=True)
    receipt = ReceiptSerializer(
        allow_null=True,
        help_text="For the event of the request; in the answer to an approval, for that of the decision.",
    )
