"""Find secrets: files that hold them by nature, and tokens and keys inside other texts.

What is found is told by kind and line and never shown. A secret is known by its form alone (see
``secret_rules``); what has the form and is evidently made up, as documentation and tests have it,
is none.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING, Literal, NamedTuple

from merganser.documents.long_runs import LEAST, find_runs
from merganser.documents.masking import Mask, MaskedText
from merganser.documents.secret_rules import PHRASE_RULES, TEXT_RULES, WORD_RULES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from merganser.documents.long_runs import Run
    from merganser.documents.secret_rules import SecretRule

SecretsMode = Literal["keep", "redact", "skip"]
"""Leave secrets as they are, put marks in their place, or leave out the files that hold one."""

SECRETS_VERSION = 2
"""Goes up whenever other texts or files than before are taken for secrets."""


def secrets_fingerprint(mode: SecretsMode) -> str:
    """Return what differs whenever the same text might be redacted in another way."""
    return mode if mode == "keep" else f"{mode}-{SECRETS_VERSION}"


class Redaction(NamedTuple):
    """A secret that was found in a file.

    Attributes:
        line: Where it begins, from 1.
        kind: What it is, a short stable word.
    """

    line: int
    kind: str


class Secret(NamedTuple):
    """A stretch of a text that is a secret, from ``start`` to before ``end``."""

    start: int
    end: int
    kind: str

    @property
    def mask(self) -> Mask:
        """What is shown instead."""
        return Mask(self.start, self.end, f"[secret: {self.kind}]")


def find_secrets(text: str, runs: Sequence[Run] | None = None) -> list[Secret]:
    """Return the secrets of a text, by their place.

    Args:
        text: The text.
        runs: What ``find_runs`` said of it; None has them found.

    >>> find_secrets("url = postgres://shop:Xk2-9fQ@db.corp/orders")
    [Secret(start=22, end=29, kind='url-password')]
    """
    found = [*_find_texts(text)]
    if runs := find_runs(text) if runs is None else runs:
        found += _find_phrases(text, _near(text, runs))
        if words := _words_of(text, runs):
            found += _find_words(text, words)
        if "PRIVATE KEY" in text or "Private-Lines:" in text:
            found += _find_key_blocks(text)
    if "@" in text and "://" in text:
        found += _find_url_passwords(text)
    if any(secret.kind == "aws-key-id" for secret in found):
        found += _find_aws_keys(text, found)
    return sorted({(s.start, s.end): s for s in found}.values())


def redact_secrets(text: str) -> str:
    """Return a text with marks in place of its secrets, with as many lines as before."""
    secrets = find_secrets(text)
    return MaskedText(text, (secret.mask for secret in secrets)).text if secrets else text


def lines_of(text: str, secrets: Sequence[Secret]) -> tuple[Redaction, ...]:
    """Return secrets, which are ordered, by the lines where they begin."""
    line, position = 1, 0
    found: list[Redaction] = []
    for secret in secrets:
        line += text.count("\n", position, secret.start)
        position = secret.start
        found.append(Redaction(line, secret.kind))
    return tuple(found)


# -- tokens ----------------------------------------------------------------------------------------

_WORD = re.compile(rf"[A-Za-z0-9_-]{{{LEAST},}}")
# Goes on once from the first hyphen: from each of them it would take a rule of hyphens for ever.
_NO_NAME = re.compile("[^0-9_-]*(?:[0-9]|[_-].*?(?:[0-9]|[a-z][A-Z]))")
# What may stand around the run of a token and belongs to it.
_BEFORE = 64
_STRETCH = re.compile(r"[\w.~%=:$+/-]*", re.ASCII)


def _words_of(text: str, runs: Iterable[Run]) -> str:
    """Return the long words of runs that are no plain names, a line each."""
    return "\n".join(
        word for run in runs for word in _WORD.findall(text, *run) if _NO_NAME.match(word)
    )


def _near(text: str, runs: Iterable[Run]) -> str:
    """Return the parts of a text that a token with a long run may stand in, a line each."""
    parts: list[str] = []
    reached = 0
    for start, end in runs:
        if start >= reached:
            stretch = _STRETCH.match(text, end)
            reached = stretch.end() if stretch else end
            parts.append(text[max(0, start - _BEFORE) : reached])
    return "\n".join(parts)


def _find_words(text: str, words: str) -> Iterator[Secret]:
    for rule in WORD_RULES:
        if rule.anchors[0] in words:
            for match in rule.find(text):
                start, end = match.span()
                is_whole = _begins_alone(text, start) and _ends_alone(text, end)
                if is_whole and not is_made_up(match[0][len(rule.anchors[0]) :]):
                    yield Secret(start, end, rule.kind)


def _find_phrases(text: str, near: str) -> Iterator[Secret]:
    for rule in PHRASE_RULES:
        for anchor in rule.anchors:
            if anchor in near and any(rule.find(near)):
                yield from _find_forms(text, rule)
                break


def _find_texts(text: str) -> Iterator[Secret]:
    for rule in TEXT_RULES:
        # A single character is looked for ten times faster than several.
        if any(anchor[-1] in text and anchor in text for anchor in rule.anchors):
            yield from _find_forms(text, rule)


def _find_forms(text: str, rule: SecretRule) -> Iterator[Secret]:
    if rule.beside and not any(word in text for word in rule.beside):
        return
    for match in rule.find(text):
        span = match.span(len(match.groups()))
        # What stands before a group, the expression says.
        begins = bool(match.groups()) or _begins_alone(text, span[0])
        if begins and _ends_alone(text, span[1]) and _is_real(match, rule.kind):
            yield Secret(*span, rule.kind)


_ALPHANUMERIC = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


def _begins_alone(text: str, start: int) -> bool:
    """Return whether what begins there goes on with no word; an escape before it is none."""
    before = text[start - 1 : start]
    if not before or before not in _ALPHANUMERIC or not text[start].isalnum():
        return True
    return bool(_ESCAPE.search(text, max(0, start - _LONGEST_ESCAPE), start))


def _ends_alone(text: str, end: int) -> bool:
    """Return whether no word goes on there."""
    return text[end : end + 1] not in _ALPHANUMERIC or end == len(text)


# A line end or sign of a string, a byte of a URL, a colour of a terminal.
_ESCAPE = re.compile(
    r"(?:\\[nrt]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|%[0-9A-F]{2}|\x1b\[[\d;]*m)\Z"
)
_LONGEST_ESCAPE = 16


def _is_real(match: re.Match[str], kind: str) -> bool:
    value = match[len(match.groups())]
    if value in _DOCUMENTED or is_made_up(value) or re.fullmatch(_NAMED, value):
        return False
    if kind == "aws-secret-key":
        return _is_mixed(value)
    return kind != "jwt" or not _is_example_jwt(value)


# Keys that emulators and documentation of the services give to everybody.
_DOCUMENTED = frozenset(
    {
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==",
    }
)
_MADE_UP = re.compile(
    r"example|sample|dummy|fake|placeholder|redacted|removed|your|change_?me|insert|notareal|"
    r"not-a-real|invalid|foobar|testtest|asdf|qwerty|secret|password|(.)\1{4}",
    re.IGNORECASE,
)
_SEQUENCE = 6
_LEAST_DISTINCT = 8


def is_made_up(value: str) -> bool:
    """Return whether a token is evidently a placeholder: its words, repetitions or sequences.

    A random token of 36 letters and digits is taken for one less than once in 5,000.

    >>> is_made_up("xxxxxxxxxxxxxxxxxxxx"), is_made_up("IOSFODNN7EXAMPLE")
    (True, True)
    """
    if _MADE_UP.search(value) or len({*value}) < _LEAST_DISTINCT:
        return True
    codes = [ord(character) for character in value.lower()]
    for step in (1, -1):
        run = 1
        for one, other in pairwise(codes):
            run = run + 1 if other - one == step else 1
            if run == _SEQUENCE:
                return True
    return False


def _is_mixed(value: str) -> bool:
    """Return whether small and capital letters and digits occur, unlike in hashes and words."""
    return bool(re.search("[a-z]", value) and re.search("[A-Z]", value) and re.search(r"\d", value))


_LEAST_CLAIMS = 60  # bytes; tokens that a service issues say for whom, for what and until when


def _is_example_jwt(value: str) -> bool:
    """Return whether a token is that of jwt.io, or says no issuer and little else, as in tests."""
    payload = value.split(".")[1]
    try:
        claims = urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    except ValueError:
        return True
    if b"1234567890" in claims or b"John Doe" in claims or b"example" in claims.lower():
        return True
    return b'"iss"' not in claims or len(claims) < _LEAST_CLAIMS


_BESIDE = 300  # characters: the two lines of a credentials file, or a CSV row
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")


def _find_aws_keys(text: str, found: Sequence[Secret]) -> Iterator[Secret]:
    """Find what stands beside the identifier of a key and has the form of the key."""
    for start, end, kind in found:
        if kind == "aws-key-id":
            for match in _AWS_SECRET.finditer(text, max(0, start - _BESIDE), end + _BESIDE):
                if _is_mixed(match[0]) and not is_made_up(match[0]):
                    yield Secret(*match.span(), "aws-secret-key")


# -- keys ------------------------------------------------------------------------------------------

_KEY_BEGIN = re.compile(r"-{4,5} ?BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?) ?-{4,5}")
_PUTTY = re.compile(r"Private-Lines: \d+\r?\n((?:[A-Za-z0-9+/=]+(?:\r?\n)?)+)")
_MAX_KEY = 64_000
_KEY_RUN = re.compile(r"[A-Za-z0-9+/=]{20,}")
# Between the lines of a key: line ends, also as \\n, quotes, comment signs, headers.
_BETWEEN = re.compile(r"(?:\\[nr]|[^A-Za-z0-9]){0,80}(?:[A-Z][A-Za-z-]{3,20}: [^\n\\]{0,200})?")
_LEAST_OF_KEY = 0.6
_LEAST_LINE = 40


def _find_key_blocks(text: str) -> Iterator[Secret]:
    begins = [*_KEY_BEGIN.finditer(text)]
    for begin, other in zip_longest(begins, begins[1:]):
        # No key goes on behind the beginning of the next one.
        last = min(begin.end() + _MAX_KEY, other.start() if other else len(text))
        end = re.compile(rf"-{{4,5}} ?END {begin[1]} ?-{{4,5}}").search(text, begin.end(), last)
        stop = end.start() if end else _end_of_key(text, begin.end())
        body = text[begin.end() : stop]
        runs = _KEY_RUN.findall(body)
        if end is None and runs and len(runs[0]) < _LEAST_LINE:
            continue  # code that speaks of keys goes on with a long name
        length = sum(map(len, runs))
        if (
            runs
            and len({*runs[0]}) >= _LEAST_DISTINCT
            and length >= _LEAST_OF_KEY * len(re.sub(r"\\[nr]|\W", "", body))
        ):
            yield Secret(
                begin.start(), end.end() if end else begin.end() + len(body), "private-key"
            )
    for match in _PUTTY.finditer(text):
        yield Secret(*match.span(1), "private-key")


def _end_of_key(text: str, position: int) -> int:
    """Return where the lines of a key end that has no last line."""
    end = position
    while between := _BETWEEN.match(text, position):
        run = _KEY_RUN.match(text, between.end())
        if run is None:
            break
        end = position = run.end()
    return end


# -- passwords in URLs -----------------------------------------------------------------------------

_URL_PASSWORD = re.compile(
    r"://([^\s:@/\"'<>`\\|()\[\]{},;]{0,100}):([^\s@/\"'<>`\\|()\[\],]{1,256})@([\w.-]{1,255}|\[[0-9a-fA-F:.]{2,45}\])"
)
# ``%2F`` is a character of a password, ``%s`` and ``%(password)s`` stand for one; nobody has spaces
# in one but documentation.
_TEMPLATE = re.compile(r"[{}*]|^\$|\$[A-Z_(]|%(?!(?!20)[0-9A-Fa-f]{2})|\.\.\.|^(.)\1*$")
# What a password is called, in place of one: my-secret-key, ApiToken, DB_PASSWORD, password123.
_NAMES = (
    r"pass(?:word|wd|wort|phrase|code)?|pwd?|secret|token|key|auth|credentials?|s?id|api_?key|pin"
)
# It and the names of hosts are compiled at their first use: few texts have a password at all.
_NAMED = (
    rf"(?:(?i:{_NAMES}|p|x|changeit|change[-_]?me|guest|admin(?:istrator)?|root|users?|username|test"
    r"|testing|postgres|mysql|mariadb|rabbitmq|redis|mongo(?:db)?|elastic|minio(?:admin)?|airflow"
    r"|default|foo|bar|baz|abc|b|hidden|none|null|wrong|bad|word|port|x-oauth-basic|private|public"
    rf"|(?:[a-z]{{1,12}}[-_]){{1,2}}(?:{_NAMES})|(?:my|your|the|user|db|some|super|top|test)(?:{_NAMES})"
    r"|(?:[a-z]{1,12}[-_])?(?:user|test|pass)(?:name|word|er)?)"
    r"|[A-Za-z]*(?:Pass|Password|Pwd|Secret|Token|Key|Auth|Id|ID|Sid)"
    r"|[A-Z_]*(?:PASS|PASSWORD|PWD|SECRET|TOKEN|KEY|AUTH|ID))[-_]?\d{0,6}"
)
_LOCAL_HOST = (
    r"localhost|127\..*|0\.0\.0\.0|(?:.*\.)?(?:example|invalid|test|localhost|local|localdomain)"
    r"(?:\.\w{2,3})?|[a-z]{1,4}|(?:my|your|some|[a-z]{1,8}[-_.])?(?:host|hostname|server|domain|proxy"
    r"|site|db|database|foo|bar|registry|company)(?:name)?\d?(?:\.(?:com|org|net|io|tld|name))?"
)
_STRONG = 8


def _is_named(value: str) -> bool:
    """Return whether a value says what should stand there."""
    return bool(_TEMPLATE.search(value) or re.fullmatch(_NAMED, value))


def _find_url_passwords(text: str) -> Iterator[Secret]:
    for match in _URL_PASSWORD.finditer(text):
        user, password, host = match.groups()
        if _is_named(password) or password.lower() == user.lower():
            continue
        if user == "scott" and password.startswith("tiger"):  # Oracle's example of forty years
            continue
        is_strong = len(password) >= _STRONG and _is_mixed(password) and not is_made_up(password)
        if is_strong or not re.fullmatch(_LOCAL_HOST, host.rstrip("."), re.IGNORECASE):
            yield Secret(*match.span(2), "url-password")
