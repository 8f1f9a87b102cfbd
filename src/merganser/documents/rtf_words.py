"""The control words of RTF that say what text is, where it goes and how it is encoded."""

from __future__ import annotations

import re

SIGNS = {b"~": "\xa0", b"_": "-", b"-": "", b"{": "{", b"}": "}", b"\\": "\\", b"\t": "\t"}
CHARACTERS = {
    "tab": "\t",
    "line": "\n",
    "lbr": "\n",
    "emdash": "—",
    "endash": "–",
    "bullet": "•",
    "lquote": "‘",
    "rquote": "’",
    "ldblquote": "“",
    "rdblquote": "”",
    "emspace": " ",
    "enspace": " ",
    "qmspace": " ",
}
LEFT_OUT = frozenset(
    {
        "fonttbl",
        "colortbl",
        "stylesheet",
        "info",
        "pict",
        "object",
        "objdata",
        "fldinst",
        "datafield",
    }
    | {"themedata", "colorschememapping", "datastore", "latentstyles", "listtable", "xmlnstbl"}
    | {"listoverridetable", "rsidtbl", "revtbl", "generator", "filetbl", "xe", "tc", "rxe", "tcn"}
    | {"bkmkstart", "bkmkend", "sp", "nonesttables", "pntext", "ftnsep", "ftnsepc", "ftncn"}
    | {"aftnsep", "aftnsepc", "aftncn", "formfield", "private", "template", "operator", "falt"}
    | {
        "panose",
        "nextfile",
        "docvar",
        "userprops",
        "wgrffmtfilter",
        "mmathPr",
        "pgptbl",
        "pnseclvl",
    }
    | {"atnid", "atnauthor", "atntime", "atndate", "atnicn", "atnref", "atrfstart", "atrfend"}
)
"""Groups whose text nobody sees. The result of an object is a group inside it, and seen."""

SEEN = frozenset(
    # groups that older readers are told to skip, and that hold text for all others
    {"shpinst", "shptxt", "annotation", "footnote", "nesttableprops", "ud", "do", "dptxbxtext"}
    | {"mmath", "moMath", "moMathPara", "mr", "me", "mnum", "mden", "msub", "msup", "background"}
    | {"shppict", "sub", "msSub", "msSup"}
)
ASIDE = {"footnote": "footnote", "annotation": "comment"}
MARGINS = {
    **dict.fromkeys(("header", "headerl", "headerr", "headerf"), "header"),
    **dict.fromkeys(("footer", "footerl", "footerr", "footerf"), "footer"),
}
CHARSETS = {
    77: "mac-roman",
    78: "shift_jis",
    79: "euc_kr",
    80: "gb2312",
    81: "big5",
    83: "mac-greek",
    128: "cp932",
    129: "cp949",
    130: "johab",
    134: "gbk",
    136: "cp950",
    161: "cp1253",
    162: "cp1254",
    163: "cp1258",
    177: "cp1255",
    178: "cp1256",
    186: "cp1257",
    204: "cp1251",
    222: "cp874",
    238: "cp1250",
    254: "cp437",
    255: "cp850",
}
HEADING = re.compile(r"heading ?([1-9])", re.IGNORECASE)
