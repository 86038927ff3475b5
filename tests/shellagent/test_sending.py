"""Sending, to receivers that are real: a webhook, a mail server, and an Apprise service; and what is never called."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from atomsite.email import email_settings
from shellagent.notifying import at_rest
from shellagent.notifying.addresses import AddressError, address_read, resolved
from shellagent.notifying.apprise_process import answer, scrubbed
from shellagent.notifying.apprises import apprise_problem, apprise_send
from shellagent.notifying.emails import email_send
from shellagent.notifying.models import Sink
from shellagent.notifying.parcels import Parcel
from shellagent.notifying.webhooks import webhook_send
from tests.shellagent.receivers import Webhooks, free_port, mailbox, webhooks

SECRET, OLDER = at_rest.signing_secret(), at_rest.signing_secret()


@pytest.fixture(autouse=True)
def private_addresses(settings: Any) -> Any:
    """Let receivers be on this machine."""
    settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES = True
    return settings


@pytest.fixture
def receiver() -> Iterator[Webhooks]:
    """A receiver of webhooks."""
    with webhooks() as state:
        yield state


def parcel(address: str, way: str = Sink.Way.WEBHOOK, **values: Any) -> Parcel:
    return Parcel(
        **{
            "name": "msg_1",
            "way": way,
            "address": address,
            "title": "A command waits",
            "text": "Look",
            "body": '{"type": "atom.waiting", "data": "\u00e9"}',
            "secrets": (SECRET, OLDER),
            **values,
        }
    )


class TestWebhooks:
    def test_any_library_of_the_standard_verifies_it_by_either_secret(self, receiver: Webhooks) -> None:
        delivery = webhook_send(parcel(f"{receiver.url}/hook?id=1"))
        assert (delivery.is_delivered, delivery.status, delivery.detail) == (True, 204, "It answered 204.")
        ((path, headers, body),) = receiver.took
        assert path == "/hook?id=1"
        for secret in (SECRET, OLDER):
            assert Webhook(secret).verify(body, headers)["data"] == "\u00e9"
        with pytest.raises(WebhookVerificationError):
            Webhook(at_rest.signing_secret()).verify(body, headers)

    @pytest.mark.parametrize(
        ("status", "headers", "detail"),
        [
            (500, {}, "It answered 500."),
            (302, {"Location": "/elsewhere"}, "It answered 302: a redirect, which is not followed."),
            (410, {}, "It answered 410: it wants no more of this."),
            (429, {"Retry-After": "120"}, "It answered 429."),
        ],
    )
    def test_what_is_no_success_is_told_and_no_redirect_followed(
        self, receiver: Webhooks, status: int, headers: dict[str, str], detail: str
    ) -> None:
        receiver.answer, receiver.headers = status, headers
        delivery = webhook_send(parcel(receiver.url))
        assert (delivery.is_delivered, delivery.status, delivery.detail) == (False, status, detail)
        assert (delivery.is_final, delivery.retry_after_seconds) == (status == 410, 120 if status == 429 else 0)
        assert len(receiver.took) == 1

    @pytest.mark.parametrize("answer", [0, 1])
    def test_one_that_hangs_or_drips_is_left_at_the_deadline(self, receiver: Webhooks, answer: int) -> None:
        receiver.answer = answer
        began = time.monotonic()
        delivery = webhook_send(parcel(receiver.url), deadline_seconds=0.2)
        assert delivery.detail == "It did not answer within 0.2 s."
        assert time.monotonic() - began < 5

    def test_nobody_there_and_no_web_server_are_told_without_the_address(self) -> None:
        gone = webhook_send(parcel(f"http://127.0.0.1:{free_port()}/secret-path"))
        assert gone.detail == "It cannot be reached: Connection refused."
        with mailbox() as box:
            odd = webhook_send(parcel(f"http://127.0.0.1:{box.port}/secret-path"))
        assert odd.detail == "It did not answer as a web server does (BadStatusLine)."


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com\\@evil.example/",
            "https://user@example.com/",
            "https://example.com/#there",
            "https://example.com/a/../b",
            "https://example.com/a/%2e%2e/b",
            "https://example.com/a%2fb",
            "https://example.com:0/",
            "https://example.com:99999/",
            "https://ex%61mple.com/",
            "https://example.com/ a",
            "https://example.com/\n",
            "//example.com/",
            "ftp://example.com/",
            "https://",
            f"https://example.com/{'a' * 500}",
        ],
    )
    def test_one_that_could_be_read_in_two_ways_is_refused(self, url: str) -> None:
        with pytest.raises(AddressError):
            address_read(url)

    @pytest.mark.parametrize(
        ("host", "is_called"),
        [
            ("8.8.8.8", (True, True)),
            ("[2606:4700:4700::1111]", (True, True)),
            ("127.0.0.1", (False, True)),
            ("10.1.2.3", (False, True)),
            ("[::1]", (False, True)),
            ("[::ffff:10.0.0.1]", (False, True)),
            ("[64:ff9b::a00:1]", (False, True)),
            ("169.254.169.254", (False, False)),
            ("[::ffff:169.254.169.254]", (False, False)),
            ("[64:ff9b::a9fe:a9fe]", (False, False)),
            ("[fe80::1]", (False, False)),
            ("0.0.0.0", (False, False)),  # noqa: S104 - an address to refuse
            ("224.0.0.1", (False, False)),
        ],
    )
    def test_private_addresses_are_the_operators_to_allow(
        self, host: str, is_called: tuple[bool, bool], settings: Any
    ) -> None:
        for allowed, expected in zip((False, True), is_called, strict=True):
            settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES = allowed
            try:
                address_read(f"https://{host}/")
            except AddressError:
                assert not expected
            else:
                assert expected

    def test_a_name_is_resolved_once_and_all_that_it_has_is_checked(
        self, monkeypatch: pytest.MonkeyPatch, settings: Any, receiver: Webhooks
    ) -> None:
        answers = iter([["8.8.8.8"], ["8.8.8.8", "127.0.0.1"], ["127.0.0.1"]])

        def lookup(host: str, port: int, **_: object) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (place, port)) for place in next(answers)]

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES = False
        assert resolved("rebinds.example", 443, "https") == "8.8.8.8"
        for _ in range(2):
            delivery = webhook_send(parcel("https://rebinds.example/"))
            assert delivery.detail.startswith("127.0.0.1 is no public address.")
        assert receiver.took == []

    def test_plain_http_is_for_private_addresses(self, settings: Any) -> None:
        with pytest.raises(AddressError, match="by https only"):
            address_read("http://8.8.8.8/")
        settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES = False
        with pytest.raises(AddressError, match="Use https"):
            address_read("http://example.com/")

    @pytest.mark.parametrize(
        ("url", "is_below"),
        [
            ("https://ci.example.com/atom", True),
            ("https://CI.example.com:443/atom/build?x=1", True),
            ("https://ci.example.com/atomic", False),
            ("https://ci.example.com.evil.example/atom/", False),
            ("https://ci.example.com:8443/atom/", False),
            ("http://ci.example.com/atom/", False),
            ("https://ci.example.com/", False),
        ],
    )
    def test_a_beginning_counts_by_whole_parts(self, url: str, is_below: bool) -> None:
        assert address_read(url).begins_with(address_read("https://ci.example.com/atom")) is is_below

    @settings(max_examples=50, deadline=None)
    @given(st.text("a1/.:@%2eF\\#?[]\u00e9 \n", max_size=30))
    def test_any_text_is_an_address_or_told(self, text: str) -> None:
        for url in (text, f"https://example.com/{text}", f"https://{text}/"):
            try:
                found = address_read(url)
            except AddressError:
                continue
            assert url.isascii()
            assert found.host


class TestEmail:
    def test_it_arrives_with_an_id_that_a_repetition_has_too(self, settings: Any) -> None:
        with mailbox() as box:
            _mail_by(settings, box.port)
            delivery = email_send(parcel("anna@example.com, otto@example.com", Sink.Way.EMAIL))
            assert delivery.is_delivered, delivery
            (mail,) = box.mails
            assert mail.rcpt_tos == ["anna@example.com", "otto@example.com"]
            for said in (b"Subject: A command waits", b"Message-ID: <msg_1@localhost>", b"\r\n\r\nLook"):
                assert said in mail.content
            box.refusal = "550 nobody"
            refused = email_send(parcel("anna@example.com", Sink.Way.EMAIL))
        assert refused.detail == "The mail server refused the recipients (550)."
        assert email_send(parcel("a@example.com", Sink.Way.EMAIL)).detail.startswith("The mail server cannot be used")
        settings.EMAIL_URL = ""
        assert "EMAIL_URL is not set" in email_send(parcel("a@example.com", Sink.Way.EMAIL)).detail

    def test_the_server_is_one_setting(self) -> None:
        told = email_settings("smtp://anna:p%40ss@mail.example.com")
        assert (told["EMAIL_PORT"], told["EMAIL_HOST_PASSWORD"], told["EMAIL_USE_TLS"]) == (587, "p@ss", True)
        assert email_settings("smtps://mail.example.com")["EMAIL_USE_SSL"] is True
        for wrong in ("mail.example.com", "smtp://", "http://mail.example.com", "smtp://a:b@c:port"):
            with pytest.raises(Exception, match="EMAIL_URL must be like") as error:
                email_settings(wrong)
            assert "a:b" not in str(error.value)


class TestApprise:
    @pytest.mark.e2e
    def test_a_service_gets_it_from_a_process_of_its_own(self, receiver: Webhooks, settings: Any) -> None:
        receiver.answer = 200
        url = f"gotify://{receiver.url.removeprefix('http://')}/a-token-of-mine"
        delivery = apprise_send(parcel(url, Sink.Way.APPRISE))
        assert (delivery.is_delivered, delivery.detail) == (True, "The service took it.")
        assert "A command waits" in receiver.took[0][2]
        receiver.answer, receiver.headers = 302, {"Location": f"{receiver.url}/elsewhere"}
        moved = apprise_send(parcel(url, Sink.Way.APPRISE))
        assert not moved.is_delivered
        assert "a-token-of-mine" not in moved.detail
        assert [path for path, _headers, _body in receiver.took] == ["/message"] * 2
        settings.ATOM_WEBHOOK_PRIVATE_ADDRESSES = False
        assert not apprise_send(parcel(url, Sink.Way.APPRISE)).is_delivered
        assert len(receiver.took) == 2
        assert "no service" in apprise_problem("nonesuch://x")

    def test_what_cannot_be_used_is_told(self) -> None:
        for url, why in (
            ("dbus://", "not used here"),
            ("json://example.com", "signed webhook"),
            ("discord://a/b?redirect=yes", "redirects"),
        ):
            assert why in str(answer({"url": url})["problem"])

    def test_one_that_hangs_is_ended(self, receiver: Webhooks) -> None:
        receiver.answer = 0
        url = f"gotify://{receiver.url.removeprefix('http://')}/token"
        assert apprise_send(parcel(url, Sink.Way.APPRISE), deadline_seconds=0.3).detail.startswith(
            "The service did not"
        )

    def test_the_log_holds_no_piece_of_the_url(self) -> None:
        told = scrubbed("no answer from hooks.example.com/T0123/B456?tok=abcd1234", "slack://T0123/B456/abcd1234")
        assert told == "no answer from hooks.example.com/***/***?tok=***"


def _mail_by(settings: Any, port: int) -> None:
    settings.EMAIL_URL = f"smtp+plain://127.0.0.1:{port}"
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    for name, value in email_settings(settings.EMAIL_URL).items():
        setattr(settings, name, value)


def test_a_secret_is_not_in_its_cipher_and_needs_the_key() -> None:
    kept = at_rest.sealed("discord://token")
    assert "discord" not in kept
    assert at_rest.opened(kept) == "discord://token"
    with pytest.raises(at_rest.UnreadableSecretError):
        at_rest.opened(kept[:-4] + "AAAA")
