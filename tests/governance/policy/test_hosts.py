"""Hosts: what is protected stays so however it is spelled, and what cannot be read asks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governance.policy.hosts import host_of, judge_host, judge_url, split_remote
from governance.policy.types import Maturity, Outcome

from .cases import ask

OWN = ("atom.example.net", "203.0.113.9")


@pytest.mark.parametrize(
    "url",
    [
        "localhost", "LOCALHOST", "localhost.", "http://localhost:8000/x", "http://a.b.localhost/", "ip6-localhost",
        "127.0.0.1", "127.1", "127.0.1", "http://127.255.255.254/", "0", "0.0.0.0:80", "http://2130706433/",
        "http://0x7f000001/", "http://0x7f.0.0.1", "http://0X7F.1/", "http://0177.0.0.1", "http://017700000001",
        "http://[::1]/", "http://[::]:80", "http://[0:0:0:0:0:0:0:1]", "::1", "http://[::ffff:127.0.0.1]",
        "http://[::ffff:7f00:1]", "http://[::127.0.0.1]", "http://[64:ff9b::7f00:1]", "http://[2002:7f00:1::]",
        "http://user@127.0.0.1", "http://user:pass@127.0.0.1:80", "http://example.org:80@127.0.0.1/",
        "http://example.org%40x@127.0.0.1/", "//127.0.0.1/x", "http:127.0.0.1", "ftp://127.0.0.1/x",
        "http://169.254.169.254/latest/meta-data/", "http://2852039166", "http://0xa9fea9fe", "http://0xA9.254.0xa9fe",
        "http://0251.0376.0251.0376", "http://[::ffff:a9fe:a9fe]", "http://[fd00:ec2::254]/", "http://[fe80::1%25eth0]",
        "fe80::1%eth0", "http://metadata.google.internal/", "metadata.google.internal.", "http://100.100.100.200",
        "http://168.63.129.16/", "http://localtest.me", "http://x.lvh.me", "host.docker.internal",
        "https://atom.example.net:8443/api", "http://ATOM.EXAMPLE.NET./", "http://203.0.113.9", "http://0xcb007109/",
    ],
)  # fmt: skip
def test_protected_hosts_are_never_let_through(url: str) -> None:
    verdict = judge_url(url, OWN)
    assert verdict.protected or verdict.unreadable, verdict
    is_tricky = url.startswith(("//", "http:1")) or "%" in url
    assert is_tricky or verdict.protected, verdict


@pytest.mark.parametrize(
    "url",
    [
        "", "/x", "-x", "file:///etc/passwd", "FILE:///etc/passwd", "gopher://x", "dict://127.0.0.1:6379/",
        "http://", "http:///x", "http://a b", "http://a\tb", "http://example.org\\@127.0.0.1/", "http://a@b@127.0.0.1",
        "http://example.org#@127.0.0.1/", "http://example.org?@127.0.0.1/", "http://\uff11\uff12\uff17.0.0.1", "http://\u24dbocalhost",
        "http://127\u30020\u30020\u30021", "http://%31%32%37.0.0.1", "http://{a,b}/", "http://example.org/[1-3]", "http://[1-3].x.org",
        "http://1.2.3.4.5", "http://256.1.1.1", "http://1.2.3.x.9", "http://a..b", "http://a.b..", "http://[::1", "http://x:y/",
        "http://x:99999/", "http://127.0.0.1.nip.io", "http://1u.ms.rbndr.us", "http://-a.org", "http://a_.-",
    ],
)  # fmt: skip
def test_what_programs_read_differently_is_not_read(url: str) -> None:
    verdict = judge_url(url)
    assert verdict.unreadable
    assert not verdict.protected


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://example.org/a?b=c@d&e=[f", ""),
        ("https://example.org/a?b=c&d=1#e", "example.org"),
        ("example.org", "example.org"),
        ("example.org:8080/x", "example.org"),
        ("http://user:pw@example.org/", "example.org"),
        ("http://93.184.216.34/", "93.184.216.34"),
        ("http://[2606:2800:220:1::]:443/x", "2606:2800:220:1::"),
        ("ssh://git@example.org/x.git", "example.org"),
        ("http://10.0.0.5/", "10.0.0.5"),
        ("http://my_host.example", "my_host.example"),
    ],
)
def test_usual_urls_are_read(url: str, host: str) -> None:
    verdict = judge_url(url, OWN)
    assert verdict.host == host
    assert not verdict.protected
    assert bool(verdict.unreadable) == (not host)


def test_hosts_and_remote_paths() -> None:
    assert judge_host("git@example.org").host == "example.org"
    assert judge_host("example.org:22").host == "example.org"
    assert judge_host("root@localhost").protected
    assert judge_host("a;b@example.org/x").unreadable
    assert split_remote("git@example.org:a/b.git") == ("git@example.org", "a/b.git")
    assert split_remote("[::1]:/x") == ("[::1]", "/x")
    assert split_remote("./a:b") is None
    assert split_remote("dir/a:b") is None
    assert host_of("https://Atom.Example.net:8443/x") == "atom.example.net"
    assert host_of("http://[::1]:8000") == "::1"


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["dec", "hex", "octal", "mapped", "dotted-hex"]))
def test_every_spelling_of_an_address_gets_one_answer(number: int, spelling: str) -> None:
    dotted = ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
    spelled = {
        "dec": str(number),
        "hex": hex(number),
        "octal": ".".join(f"0{number >> shift & 255:o}" for shift in (24, 16, 8, 0)),
        "mapped": f"[::ffff:{number >> 16:x}:{number & 0xFFFF:x}]",
        "dotted-hex": ".".join(hex(number >> shift & 255) for shift in (24, 16, 8, 0)),
    }[spelling]
    if judge_host(dotted).protected:
        assert judge_host(spelled).protected


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.text(max_size=40) | st.text(alphabet="0x1.:[]@/\\%#?a-", max_size=30))
def test_any_text_gets_an_answer(text: str) -> None:
    for verdict in (judge_url(text, OWN), judge_host(text, OWN)):
        assert verdict.host or verdict.unreadable or verdict.protected


def test_the_matrix_decides_where_hosts_are_known() -> None:
    command = ["ping", "-c", "1", "example.org"]
    assert ask(command, Maturity.AUTONOMOUS).outcome is Outcome.ALLOW
    assert ask(command).outcome is Outcome.ASK
    assert ask(["ping", "-c", "1", "127.1"], Maturity.AUTONOMOUS).rules[0].id == "protected-host"
    assert ask(["ping", "-c", "1", "a..b"], Maturity.AUTONOMOUS).rules[0].id == "unreadable-host"
