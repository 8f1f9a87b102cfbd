"""Tell in which encoding a text is that does not say so; when in doubt, say nothing.

A guess is by letters and pairs of letters of languages (chardet). It is believed when there is
enough of the text, no other encoding gives a text about as likely, and the text reads like one:
no word of two scripts, no sign where a letter belongs. What is refused is left out of the index
with its reason; what is read wrongly nobody would notice.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import NamedTuple

_SIZE = 65_536  # bytes that are looked at; more of a text changes no guess


class Detection(NamedTuple):
    """The encoding of a text.

    Attributes:
        encoding: Name of a Python codec; empty when it is not known.
        problem: Why it is not.
    """

    encoding: str
    problem: str = ""


_KNOWN = frozenset(
    codecs.lookup(name).name
    for names in (
        "gb18030 gbk gb2312 big5 cp950 big5hkscs shift_jis cp932 euc_jp euc_kr cp949",
        "cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp866 cp874 koi8_r koi8_u",
        "iso8859_1 iso8859_2 iso8859_5 iso8859_7 iso8859_9 iso8859_15 tis_620 mac_roman",
    )
    for name in names.split()
)
# Next to nobody wrote in these, and they differ in few letters from one that is known.
_RARE = frozenset({"iso8859-10", "iso8859-14", "iso8859-16", "mac-cyrillic"})
_TEXT_LINE = re.compile(rb"[^\n]*[\x80-\xff][^\n]*")
_DECORATION = b" \t\r#*/-;%"


def detect(data: bytes) -> Detection:
    r"""Return the encoding of bytes that are text and not UTF-8.

    >>> detect(b"/* M\xfcller */"), detect("базы данных и соединения".encode("cp1251")).encoding
    (Detection(encoding='cp1252', problem=''), 'cp1251')
    """
    from chardet import detect_all  # noqa: PLC0415 - few files need it

    # Code around a comment is ASCII and would outvote it.
    lines = (line.strip(_DECORATION) for line in _TEXT_LINE.findall(data))
    part = b"\n".join(lines)[:_SIZE]
    if _PLAIN_LATIN.fullmatch(part):
        return Detection("cp1252")
    texts: dict[str, float] = {}  # the likeliest first
    encodings: dict[str, str] = {}
    guesses = detect_all(part)
    for guess in guesses:
        text = _read(part, guess["encoding"] or "")
        if text is not None and text not in texts:
            texts[text] = guess["confidence"]
            encodings[text] = guess["encoding"] or ""
    best = next(iter(texts), "")
    # What is likeliest and gives no text says that the letters are those of nothing known.
    if not best or texts[best] < guesses[0]["confidence"] / 2:
        return Detection("", "no other encoding fits")
    others = (c for t, c in texts.items() if t != best and _name(encodings[t]) not in _RARE)
    lead = texts[best] - max(others, default=0)
    if _name(encodings[best]) not in _KNOWN or lead < _LEAST_LEAD or _is_short(best):
        return Detection("", "too little of it to tell the encoding")
    if _MIXED_WORD.search(best) or _STRAY_CAPITAL.search(best) or len(_scripts(best)) > 1:
        return Detection("", "no other encoding gives words")
    return Detection(_name(encodings[best]))


_LEAST_LEAD = 0.01
_LEAST_LETTERS = {"": 10, "CJK": 14}  # of other scripts 20


def _is_short(text: str) -> bool:
    letters = sum(not character.isascii() for character in text)
    return letters < _LEAST_LETTERS.get("".join(_scripts(text)), 20)


# Bytes that mean the same in the encodings of Windows for western, central and northern Europe and
# Turkey, where they stand in words of ASCII; those of Macintosh and DOS have no letters there.
_SMALL = re.escape("éöüß".encode("cp1252"))
_CAPITAL = re.escape("ÄÜ".encode("cp1252"))
_SIGN = re.escape("€§©«®°±µ·»".encode("cp1252"))
_PLAIN_LATIN = re.compile(
    rb"(?:[\x00-\x7f]|(?<=[A-Za-z])[%b](?![\x80-\xffA-Z])|(?<![A-Za-z\x80-\xff])[%b](?=[a-z])"
    rb"|(?<![A-Za-z\x80-\xff])[%b](?![A-Za-z\x80-\xff]))*" % (_SMALL, _CAPITAL, _SIGN)
)

# A letter of one alphabet beside one of another, or a sign where a word goes on.
_MIXED_WORD = re.compile(
    # Korean has had no Chinese characters in its words for two generations.
    "[가-힣](?=[一-龥])|[一-龥](?=[가-힣])|[A-Za-z](?=[\u0370-\u1fff\u2500-\u25ff])|[\u0370-\u1fff\u2500-\u25ff](?=[A-Za-z])"
)
_STRAY_SIGN = re.compile(r"[¶¹²³¤¥¦¬¯´¸¨¢](?=[^\W\d_])|[\u2500-\u259f]")
# Cyrillic and Greek are not written in camel case; letters of the wrong encoding are.
_STRAY_CAPITAL = re.compile("[а-яёα-ωί-ώ][А-ЯЁΑ-Ω]")


def _read(part: bytes, encoding: str) -> str | None:
    """Decode if that gives what people write: no control characters, no signs inside words."""
    try:
        text = part.decode(encoding)
        is_whole = text.encode(encoding) == part
    except (LookupError, ValueError):
        return None
    odd = (not c.isascii() and unicodedata.category(c) in {"Cc", "Cn", "Co"} for c in {*text})
    return text if is_whole and not any(odd) and not _STRAY_SIGN.search(text) else None


_EAST_ASIAN = frozenset(("HIRAGANA", "KATAKANA", "HANGUL", "FULLWIDTH", "HALFWIDTH", "IDEOGRAPHIC"))


def _scripts(text: str) -> set[str]:
    """Return the scripts of a text beside Latin; those of East Asia count as one."""
    letters = {character for character in text if not character.isascii() and character.isalpha()}
    names = {unicodedata.name(letter, "?").partition(" ")[0] for letter in letters}
    east = {"CJK" for name in names if name.partition("-")[0] in _EAST_ASIAN}
    signs = {"FEMININE", "MASCULINE", "MICRO", "MODIFIER"}
    return {n for n in names if n.partition("-")[0] not in _EAST_ASIAN} - {"LATIN", *signs} | east


def _name(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return ""
