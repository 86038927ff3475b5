"""Shapes of secrets: the real formats are found, and what only looks near is not."""

import pytest

from governance.policy.secret_shapes import find_secret

_A36 = "aB3" * 12


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("AKIA" + "IOSFODNN7EXAMPLE", "an AWS access key id"),
        ("--key=ASIA" + "IOSFODNN7EXAMPLE", "an AWS access key id"),
        ("ghp_" + _A36, "a GitHub token"),
        ("https://x:gho_" + _A36 + "@github.com", "a GitHub token"),
        ("github_pat_" + "a" * 22 + "_" + "b" * 59, "a GitHub fine-grained token"),
        ("glpat-" + "a" * 20, "a GitLab token"),
        ("xoxb-" + "1234567890-abc", "a Slack token"),
        ("-----BEGIN OPENSSH " + "PRIVATE KEY-----", "a private key"),
        ("-----BEGIN " + "PRIVATE KEY-----", "a private key"),
        ("Bearer eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0." + "a" * 43, "a JSON Web Token"),
        ("ata_" + "a" * 43, "a key of this product"),
        ("ath_" + "a" * 43, "a key of this product"),
        ("ate_" + "a" * 43, "a key of this product"),
        ("sk_live_" + "a" * 24, "a Stripe key"),
        ("AIza" + "a" * 35, "a Google API key"),
    ],
)
def test_a_secret_is_named(text: str, name: str) -> None:
    assert find_secret(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AKIA",
        "data_directory_for_everything",
        "/srv/data_2024/report-of-the-year.csv",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "9b2f0c1e-6f9d-4c61-9d39-3a9d1a5a0b3e",
        "ghp_short",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----",
        "eyJub3QuYSB0b2tlbg",
        "category_theory_and_its_applications",
    ],
)
def test_ordinary_text_is_no_secret(text: str) -> None:
    assert find_secret(text) is None
