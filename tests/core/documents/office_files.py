"""Office files written by hand, for what no program would write: hostile, damaged and rare ones."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
P = "http://schemas.openxmlformats.org/presentationml/2006/main"
A = "http://schemas.openxmlformats.org/drawingml/2006/main"
S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"


def make_package(parts: Mapping[str, str | bytes]) -> bytes:
    """Zip parts."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return out.getvalue()


def relate(*targets: tuple[str, str, str]) -> str:
    """Write relations: id, kind, target; an address outside is external."""
    outside = ' TargetMode="External"'
    written = "".join(
        f'<Relationship Id="{key}" Type="{R}/{kind}" Target="{target}"'
        f"{outside if '://' in target else ''}/>"
        for key, kind, target in targets
    )
    return f'<Relationships xmlns="{_RELATIONS}">{written}</Relationships>'


def make_docx(body: str, **parts: str | bytes) -> bytes:
    """Write a Word document; names of parts have ``__`` for ``/`` and no suffix ``.xml``."""
    kinds = ("styles", "numbering", "footnotes", "endnotes", "comments")
    related = [(f"r{i}", kind, f"{kind}.xml") for i, kind in enumerate(kinds) if kind in parts]
    named = {f"word/{name.replace('__', '/')}.xml": content for name, content in parts.items()}
    return make_package(
        {
            "_rels/.rels": relate(("r1", "officeDocument", "word/document.xml")),
            "word/_rels/document.xml.rels": relate(*related),
            "word/document.xml": f'<w:document xmlns:w="{W}" xmlns:r="{R}"><w:body>{body}'
            "</w:body></w:document>",
            **named,
        }
    )


def paragraph(text: str, properties: str = "") -> str:
    """Write a paragraph of a Word document."""
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def make_xlsx(*sheets: tuple[str, str], styles: str = "", texts: tuple[str, ...] = ()) -> bytes:
    """Write a workbook of sheets, each a name and its rows."""
    listed = "".join(
        f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, (name, _) in enumerate(sheets)
    )
    relations = [(f"r{i}", "worksheet", f"s{i}.xml") for i in range(len(sheets))]
    relations += [("rs", "styles", "styles.xml"), ("rt", "sharedStrings", "texts.xml")]
    shared = "".join(f"<si><t>{text}</t></si>" for text in texts)
    return make_package(
        {
            "_rels/.rels": relate(("r1", "officeDocument", "xl/workbook.xml")),
            "xl/_rels/workbook.xml.rels": relate(*relations),
            "xl/workbook.xml": f'<workbook xmlns="{S}" xmlns:r="{R}"><sheets>{listed}</sheets>'
            "</workbook>",
            "xl/styles.xml": f'<styleSheet xmlns="{S}">{styles}</styleSheet>',
            "xl/texts.xml": f'<sst xmlns="{S}">{shared}</sst>',
            **{
                f"xl/s{i}.xml": f'<worksheet xmlns="{S}">{rows}</worksheet>'
                for i, (_, rows) in enumerate(sheets)
            },
        }
    )
