"""Secrets: every form is found and hidden whole, and what only looks like one is left alone."""

from __future__ import annotations

import base64
import json
import random
import string
import subprocess
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merganser.documents.reading import read_document
from merganser.documents.scanning import scan_documents
from merganser.documents.secret_files import refuse_secret_path, refuse_secret_text
from merganser.documents.secret_rules import PHRASE_RULES, TEXT_RULES, WORD_RULES
from merganser.documents.secrets import find_secrets, redact_secrets
from merganser.errors import SkipDocument
from tests.core.documents.office_files import make_docx, paragraph

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from merganser.documents.reading import DocumentText
    from merganser.documents.secret_rules import SecretRule
    from merganser.documents.secrets import SecretsMode

# No test holds a token: hosts of repositories refuse files with one. They are drawn here.
_DRAW = random.Random(5)  # noqa: S311 - the same tokens each time
_LETTERS = string.ascii_letters + string.digits


def draw(count: int, alphabet: str = _LETTERS) -> str:
    return "".join(_DRAW.choices(alphabet, k=count))


def draw_hex(count: int) -> str:
    return draw(count, "0123456789abcdef")


def draw_jwt(claims: dict[str, object]) -> str:
    parts = (json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    head, body = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
    return f"{head}.{body}.{draw(43)}"


def draw_key(lines: int = 12, kind: str = "RSA PRIVATE KEY", end: str = "\n") -> str:
    body = end.join(draw(64, _LETTERS + "+/") for _ in range(lines))
    return f"-----BEGIN {kind}-----{end}{body}{end}-----END {kind}-----"


TOKENS = {
    "github-token": f"ghp_{draw(36)}",
    "gitlab-token": f"glpat-{draw(20)}",
    "aws-key-id": f"AKIA{draw(16, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567')}",
    "google-api-key": f"AIza{draw(35)}",
    "slack-token": f"xoxb-{draw(12, '3758')}-{draw(12, '90246')}-{draw(24)}",
    "stripe-key": f"sk_live_{draw(24)}",
    "npm-token": f"npm_{draw(36)}",
    "pypi-token": f"pypi-AgEIcHlwaS5vcmc{draw(120)}",
    "openai-key": f"sk-proj-{draw(48)}",
    "anthropic-key": f"sk-ant-api03-{draw(90)}-{draw(4)}AA",
    "huggingface-token": f"hf_{draw(34, string.ascii_letters)}",
    "sendgrid-key": f"SG.{draw(22)}.{draw(43)}",
    "telegram-token": f"{draw(9, '8259416')}:AA{draw(33)}",
    "digitalocean-token": f"dop_v1_{draw_hex(64)}",
    "twilio-key": f"SK{draw_hex(32)}",
    "jwt": draw_jwt({"iss": "https://login.corp/", "aud": "billing", "exp": 1790000000, "sub": 7}),
    "prefect-key": f"pnu_{draw(36)}",
    "vault-token": f"hvs.{draw(24)}",
    "discord-webhook": f"https://discord.com/api/webhooks/{draw(18, '92847')}/{draw(68)}",
    "slack-webhook": f"https://hooks.slack.com/services/T{draw(8)}/B{draw(8)}/{draw(24)}",
    "url-password": f"postgresql://shop:{draw(12)}@db.corp.net:5432/orders",
    "azure-storage-key": f"AccountName=shop;AccountKey={draw(86)}==;EndpointSuffix=x",
    "private-key": draw_key(),
    "aws-secret-key": f"AWS_SECRET_ACCESS_KEY={draw(38)}/7",
}
HIDDEN_IN_PART = {"url-password", "azure-storage-key", "slack-webhook", "discord-webhook",
                  "aws-secret-key"}  # fmt: skip

PLACES = (
    "{}",
    'TOKEN = "{}"  # rotate\n',
    "curl -H 'Authorization: Bearer {}' https://api.corp\n",
    '{{"a": 1,\r\n "key": "{}"}}\r\n',
    "export KEY={}\nnext line\n",
    "<key>{}</key>",
    "| name | {} |\n",
    "説明 {} です。\n",
    "https://corp.net/login?token%3D{}&next=%2F\n",
    "\x1b[1;32m{}\x1b[0m\n",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", TOKENS)
def test_every_kind_of_token_is_hidden_wherever_it_stands(kind: str, place: str):
    text = place.format(TOKENS[kind])

    shown = redact_secrets(text)

    assert f"[secret: {kind}]" in shown
    assert shown.count("\n") == text.count("\n")
    if kind not in HIDDEN_IN_PART:
        before, after = place.format("\0").split("\0")
        assert shown.replace("\n", "") == f"{before}[secret: {kind}]{after}".replace("\n", "")


def draw_match(parsed: Iterable[Any]) -> str:
    """Return a text that an expression, as Python parses it, takes."""
    drawn: list[str] = []
    for operation, what in parsed:
        match str(operation):
            case "LITERAL":
                drawn.append(chr(what))
            case "IN":
                drawn.append(_DRAW.choice(members(what)))
            case "MAX_REPEAT":
                least, most, inner = what
                count = _DRAW.randint(least, min(int(most), least + 8))
                drawn += (draw_match(inner) for _ in range(count))
            case "SUBPATTERN":
                drawn.append(draw_match(what[-1]))
            case "BRANCH":
                drawn.append(draw_match(_DRAW.choice(what[1])))
            case "ASSERT_NOT":
                pass
            case other:
                raise AssertionError(other)
    return "".join(drawn)


def members(items: Iterable[Any]) -> str:
    expressions = {"CATEGORY_DIGIT": string.digits, "CATEGORY_SPACE": " "}
    found = ""
    for operation, what in items:
        match str(operation):
            case "LITERAL":
                found += chr(what)
            case "RANGE":
                found += "".join(map(chr, range(what[0], what[1] + 1)))
            case "NEGATE":
                return _LETTERS
            case _:
                found += expressions.get(str(what), _LETTERS + "_")
    return found


# What stands in a JWT is looked at; one is among the tokens.
RULES = [r for r in (*WORD_RULES, *PHRASE_RULES, *TEXT_RULES) if r.kind != "jwt"]
PARSER: Any = import_module("re._parser")


@pytest.mark.parametrize("rule", RULES, ids=[f"{r.kind}:{r.anchors[0]}" for r in RULES])
def test_what_a_rule_describes_is_found(rule: SecretRule):
    parsed = PARSER.parse(rule.pattern)
    drawn = [draw_match(parsed) for _ in range(40)]

    found = [s.kind for text in drawn for s in find_secrets(f'Discord: "{text}"\n')]

    # What is drawn looks made up now and then, and a short one more often.
    assert found.count(rule.kind) >= 36


@pytest.mark.parametrize("text", [
    "https://api.telegram.org/bot{}/sendMessage".format(TOKENS["telegram-token"]),
    "postgres://shop:Xk2%40fQ9z@db.corp.net/orders",
    "postgres://shop:pa$sW0rd9@db.corp.net/orders",
    "http://shop:Zq8kLm2x9@[2001:db8::1]/",
])  # fmt: skip
def test_a_secret_is_found_in_a_url(text: str):
    assert "[secret: " in redact_secrets(text)


@pytest.mark.parametrize("unit", [
    "-", "_a", "eyJ1", "-----BEGIN PRIVATE KEY-----\n", "glpat-", "sk.eyJ1", "://a:", "?sig=aaaa",
])  # fmt: skip
def test_no_text_takes_longer_than_in_proportion(unit: str):
    # Hours of work where the time goes up with the square; the run would be killed for it.
    assert not find_secrets(unit * (2_000_000 // len(unit)))


def test_a_key_is_found_beside_its_identifier():
    key = "".join((draw(20), "/", draw(17), "a7"))
    text = f"user,id,key\nbot,{TOKENS['aws-key-id']},{key}\n"

    shown = redact_secrets(text)

    assert shown == "user,id,key\nbot,[secret: aws-key-id],[secret: aws-secret-key]\n"


@pytest.mark.parametrize("kind", ["PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY",
                                  "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n", "\\n", '\\n"\n    "', "\n# ", "\n\t"])
def test_a_private_key_is_hidden_as_a_whole(kind: str, end: str):
    key = draw_key(kind=kind, end=end)
    text = f"before\n{key}\nafter\n"

    shown = redact_secrets(text)

    assert [line.strip() for line in shown.split("\n") if line.strip()] == [
        "before", "[secret: private-key]", "after"
    ]  # fmt: skip
    assert shown.count("\n") == text.count("\n")


def test_a_key_that_breaks_off_is_hidden_up_to_where_it_does():
    key = draw_key().rpartition("\n")[0]

    assert "[secret: private-key]" in redact_secrets(key + "\nand text goes on here\n")
    assert "text goes on" in redact_secrets(key + "\nand text goes on here\n")


NO_SECRETS = (
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "ghp_1234567890abcdefghijABCDEFGHIJ123456",
    "ghp_YourPersonalAccessTokenGoesHere12345",
    "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AKIA<your key>",
    "sk-proj-<token>",
    "sk_test_4eC39HqLyjWDarjtT1zdp7dc",
    "task-runner-of-the-second-generation-2",
    "disk-8f14e45fceea167a5a36dedd4bea2543",
    "8f14e45fceea167a5a36dedd4bea2543",
    "e83c5163316f89bfbde7d9ab23ca2e25604af290",
    "sha512-WmtE3w6H/8OUUA6Q3wk1dhVK9EwzfHMTtCkTwgDgBpiwgYxUFQcXZRbKVk1kCXZN0mLQ7sZyHvuGjjnRmyZkrA==",
    draw_jwt({"sub": "1234567890", "name": "John Doe", "iat": 1516239022}),
    draw_jwt({"iss": "me", "exp": 1516239022}),
    "postgres://user:password@localhost:5432/db",
    "postgres://user:pass@db.corp.net/db",
    "https://$USER:$PASSWORD@host.corp.net/",
    "https://{user}:{password}@host.corp.net/",
    "https://<user>:<password>@host.corp.net/",
    "http://user:secret@example.com/",
    "mysql://root:root@mysql.corp.net/",
    "redis://:changeme@redis.corp.net/",
    "https://corp.net:8080/@scope/package",
    "https://corp.net/a:b@c",
    "git@github.com:corp/shop.git",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\n<your key here>\n-----END PRIVATE KEY-----",
    "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA0Z3VS5JJcds3xfn/yGaX",
    'if line == "-----BEGIN PRIVATE KEY-----":\n    deserializePrivateKeyFromPem(line)\n',
    "//registry.npmjs.org/:_authToken=${NPM_TOKEN}",
    "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
)


@pytest.mark.parametrize("text", NO_SECRETS)
def test_placeholders_and_documented_examples_stay(text: str):
    assert redact_secrets(f"x = {text}\n") == f"x = {text}\n"


PARTS = st.sampled_from([*"ab \n\r猫.-_/:@'\"", *TOKENS.values()])


@given(st.lists(PARTS, max_size=30).map(" ".join))
@settings(max_examples=200)
def test_redaction_keeps_lines_and_is_done_once(text: str):
    shown = redact_secrets(text)

    assert shown.count("\n") == text.count("\n")
    assert redact_secrets(shown) == shown


def test_a_random_token_is_hardly_ever_taken_for_a_made_up_one():
    tokens = [f"glpat-{draw(20)}" for _ in range(5_000)]

    missed = [token for token in tokens if not find_secrets(f"key: {token}")]

    assert len(missed) <= 5


# -- files -----------------------------------------------------------------------------------------

BY_NAME = """
.env .env.local .env.production prod.env .envrc .npmrc .pypirc .netrc .git-credentials .pgpass
id_rsa id_ed25519 .htpasswd shop.tfstate prod.tfvars .bash_history x.jks x.p12 config/secrets.yml
.aws/credentials .docker/config.json .kube/config .ssh/deploy .config/gcloud/credentials.db
.azure/accessTokens.json Client_Secret_1.json
"""
NOT_BY_NAME = """
.env.example .env.sample .env.template .env.d.ts env.py environment.ts id_rsa.pub secrets.py
templates/secrets.yaml i18n/en/secrets.json .azure/token-docs/plan.yml terraform.tf
example.tfvars.dist config.json .ssh/config .ssh/known_hosts
src/credentials.go tokens.json .github/workflows/env.yml
"""


@pytest.mark.parametrize("path", BY_NAME.split())
def test_files_that_hold_secrets_by_nature_are_known_by_their_path(path: str):
    assert refuse_secret_path(f"/home/ann/{path}")


@pytest.mark.parametrize("path", NOT_BY_NAME.split())
def test_files_that_show_how_or_speak_of_secrets_are_not(path: str):
    assert not refuse_secret_path(f"/home/ann/{path}")


@pytest.mark.parametrize(("path", "text"), [
    ("tls/server.pem", draw_key()),
    ("tls/server.key", draw_key(1, "PRIVATE KEY")),
    ("vars.yml", "$ANSIBLE_VAULT;1.1;AES256\n66383439\n"),
    ("ci.json", '{"auths": {"r.corp": {"auth": "YW5uOmh1bnRlcjI="}}}'),
    ("cluster.yaml", "apiVersion: v1\nkind: Config\nusers:\n- user:\n    token: abc\n"),
    ("k8s/db.yaml", "apiVersion: v1\nkind: Secret\ndata:\n  password: aHVudGVyMg==\n"),
])  # fmt: skip
def test_files_whose_whole_content_is_secret_are_known_by_it(path: str, text: str):
    assert refuse_secret_text(path, text)


@pytest.mark.parametrize(("path", "text"), [
    ("tls/server.pem", "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqh\n"),
    ("chart/secret.yaml", "kind: Secret\ndata:\n  password: {{ .Values.password | b64enc }}\n"),
    ("crd.yaml", "kind: SecretStore\ndata:\n  a: b\n"),
    ("a.json", '{"auths": {}}'),
])  # fmt: skip
def test_certificates_and_templates_are_not(path: str, text: str):
    assert not refuse_secret_text(path, text)


def read(folder: Path, name: str, secrets: SecretsMode) -> DocumentText:
    (document,) = scan_documents([name], base=folder, secrets=secrets).documents
    return read_document(document, secrets=secrets)


def test_the_three_modes(tmp_path: Path):
    (tmp_path / "a.py").write_text(f"x = 1\nTOKEN = '{TOKENS['npm-token']}'\n")

    assert read(tmp_path, "a.py", "keep").text == f"x = 1\nTOKEN = '{TOKENS['npm-token']}'\n"
    redacted = read(tmp_path, "a.py", "redact")
    assert redacted.text == "x = 1\nTOKEN = '[secret: npm-token]'\n"
    assert redacted.redactions == ((2, "npm-token"),)
    with pytest.raises(SkipDocument) as skipped:
        read(tmp_path, "a.py", "skip")
    assert (skipped.value.reason, skipped.value.detail) == ("secret", "npm-token in line 2")


def test_headings_hold_no_secret_and_stay_in_their_places(tmp_path: Path):
    token = TOKENS["npm-token"]
    (tmp_path / "a.html").write_text(f"<p>{token}</p>\n<h1>Key {token}</h1>\n<p>After</p>\n")

    seen = read(tmp_path, "a.html", "redact")

    assert seen.headings is not None
    (heading,) = seen.headings
    assert heading.title == "Key [secret: npm-token]"
    assert seen.text[heading.start :].startswith("Key [secret")


def test_places_hold_no_secret(tmp_path: Path):
    token = TOKENS["github-token"]
    title = paragraph(f"Key {token}", '<w:outlineLvl w:val="0"/>')
    (tmp_path / "a.docx").write_bytes(make_docx(title + paragraph("It is old.")))

    seen = read(tmp_path, "a.docx", "redact")

    assert "It is old." in seen.text
    assert "section" in str(seen.places)
    assert token not in repr(seen)


def test_why_a_file_is_left_out_holds_no_secret(tmp_path: Path):
    token = TOKENS["github-token"]
    (tmp_path / "a.py").write_text(f"# Code generated by x --key {token}; DO NOT EDIT.\na = 1\n")

    (document,) = scan_documents(["."], base=tmp_path).documents

    with pytest.raises(SkipDocument) as left_out:
        read_document(document)

    assert left_out.value.reason == "generated"
    assert "[secret: github-token]" in left_out.value.detail
    assert token not in left_out.value.detail


def test_a_link_does_not_lead_around_the_name(tmp_path: Path):
    (tmp_path / ".env").write_text("PASSWORD=hunter2\n")
    (tmp_path / "notes.txt").symlink_to(".env")

    scan = scan_documents(["."], base=tmp_path)

    assert not scan.documents
    assert {(skip.path, skip.reason) for skip in scan.skipped} == {
        (".env", "secret"), ("notes.txt", "secret")
    }  # fmt: skip


def test_a_file_of_secrets_is_left_out_also_when_it_is_tracked(tmp_path: Path):
    (tmp_path / ".env").write_text("PASSWORD=hunter2\n")
    (tmp_path / "a.py").write_text("x = 1\n")
    for command in (["init", "-q"], ["add", "--force", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)

    scan = scan_documents(["."], base=tmp_path)

    assert [document.path for document in scan.documents] == ["a.py"]
    assert [(skip.path, skip.reason) for skip in scan.skipped] == [(".env", "secret")]


def test_what_is_kept_is_scanned(tmp_path: Path):
    (tmp_path / ".env").write_text("PASSWORD=hunter2\n")

    (document,) = scan_documents(["."], base=tmp_path, secrets="keep").documents

    assert document.path == ".env"
