"""Office files that are hostile, damaged, or not what their name says: each ends with a word."""

from __future__ import annotations

import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from merganser.documents import package, rtf_text, xml_parts
from merganser.documents.office import extract_office
from merganser.documents.reading import FORMATS
from merganser.errors import SkipDocument
from tests.core.documents.office_files import (
    S,
    W,
    make_docx,
    make_package,
    make_xlsx,
    paragraph,
    relate,
)


def refusal(data: bytes) -> SkipDocument:
    with pytest.raises(SkipDocument) as refused:
        extract_office(data)
    return refused.value


def test_a_small_file_that_unpacks_to_much_is_refused(monkeypatch: pytest.MonkeyPatch):
    data = make_docx(paragraph(" " * 3_000_000 + "end"))
    monkeypatch.setattr(package, "MAX_PART_BYTES", 1_000_000)

    assert refusal(data).reason == "too large"


def test_many_parts_that_unpack_to_much_are_refused(monkeypatch: pytest.MonkeyPatch):
    rows = f'<row r="1"><c t="inlineStr"><is><t>{"x" * 400_000}</t></is></c></row>'
    data = make_xlsx(*((f"s{i}", f"<sheetData>{rows}</sheetData>") for i in range(4)))
    monkeypatch.setattr(package, "MAX_BYTES", 1_000_000)

    assert refusal(data).reason == "too large"


def test_a_package_of_endless_parts_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(package, "MAX_PARTS", 3)

    assert refusal(make_docx(paragraph("text"), styles="<s/>")).reason == "too large"


ENTITIES = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
EXTERNAL = '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("declared", [ENTITIES, EXTERNAL])
def test_entities_are_not_declared(declared: str):
    xml = f'{declared}<w:document xmlns:w="{W}"><w:body><w:p>&b;</w:p></w:body></w:document>'
    data = make_package(
        {
            "_rels/.rels": relate(("r1", "officeDocument", "d.xml")),
            "d.xml": xml.replace("&b;", "&a;"),
        }
    )

    assert refusal(data).reason == "hostile"


def test_endless_nesting_is_refused():
    deep = xml_parts.MAX_DEPTH + 10

    assert refusal(make_docx("<w:sdt>" * deep + "</w:sdt>" * deep)).reason == "hostile"
    assert refusal(b"{\\rtf1 " + b"{" * (rtf_text.MAX_GROUPS + 1)).reason == "hostile"


def test_too_many_elements_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(xml_parts, "MAX_ELEMENTS", 50)

    assert refusal(make_docx(paragraph("a") * 60)).reason == "too large"


def test_a_million_empty_rows_and_cells_are_nothing():
    rows = '<row r="1"><c r="A1"><v>7</v></c></row>' + "".join(
        f'<row r="{n}"><c r="A{n}" s="1"/><c r="XFD{n}" s="1"/></row>' for n in range(2, 50_000)
    )
    last = '<row r="1048576"><c r="XFD1048576"><v>8</v></c></row>'

    read = extract_office(make_xlsx(("Far", f"<sheetData>{rows}{last}</sheetData>")))

    assert read.text == "Far\n7\n| 8\n"


def test_cells_in_far_corners_are_not_padded():
    rows = "".join(
        f'<row r="{n}"><c r="{letter}{n}"><v>{n}</v></c></row>'
        for n, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 1)
    )

    read = extract_office(make_xlsx(("Diagonal", f"<sheetData>{rows}</sheetData>")))

    assert read.text.splitlines()[-1] == "26"


def test_a_sheet_of_too_many_cells_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("merganser.documents.xlsx_text.MAX_CELLS", 3)
    row = "<row><c><v>1</v></c><c><v>2</v></c></row>"

    assert refusal(make_xlsx(("Many", row * 2))).reason == "too large"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_damaged(share: float):
    data = make_docx("".join(paragraph(f"word {n}") for n in range(500)))

    assert refusal(data[: int(len(data) * share)]).reason == "damaged"


def outcome(data: bytes) -> str:
    try:
        extract_office(data)
    except SkipDocument as skip:
        return skip.reason
    return "read"


def test_flipped_bytes_are_damage_and_nothing_else():
    data = bytearray(make_docx(paragraph("a few words") * 50))
    outcomes: set[str] = set()
    for at in range(0, len(data), 7):
        data[at] ^= 0x55
        outcomes.add(outcome(bytes(data)))
        data[at] ^= 0x55

    assert {"damaged", "read"} <= outcomes
    known = {"read", "damaged", "binary", "empty", "encrypted", "hostile", "too large"}
    assert outcomes <= known


def test_xml_that_breaks_off_is_damaged():
    data = make_package(
        {
            "_rels/.rels": relate(("r1", "officeDocument", "d.xml")),
            "d.xml": f'<w:document xmlns:w="{W}"><w:body>',
        }
    )

    assert refusal(data).reason == "damaged"


def test_a_zip_with_a_password_is_encrypted():
    data = bytearray(make_docx(paragraph("secret")))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag in both headers
        at = 0
        while (at := data.find(mark, at)) >= 0:
            struct.pack_into("<H", data, at + offset, 1)
            at += 4

    assert refusal(bytes(data)).reason == "encrypted"


@pytest.mark.parametrize(
    ("stream", "reason", "told"),
    [
        ("EncryptedPackage", "encrypted", "password"),
        ("WordDocument", "old format", "save it as .docx"),
        ("Workbook", "old format", "save it as .xlsx"),
        ("PowerPoint Document", "old format", "save it as .pptx"),
    ],
)
def test_compound_files_are_named(stream: str, reason: str, told: str):
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1500)

    refused = refusal(head + stream.encode("utf-16-le") + bytes(100))

    assert refused.reason == reason
    assert told in refused.detail


def test_what_a_file_is_its_bytes_say():
    page = "<html><body><h1>Ducks</h1><p>They dive.</p></body></html>"

    assert "They dive." in extract_office(page.encode()).text
    assert "They dive." in extract_office(b"{\\rtf1 They dive.}").text
    assert "They dive." in extract_office(make_docx(paragraph("They dive."))).text
    assert refusal(make_package({"photo.txt": "no document"})).reason == "binary"
    assert extract_office(b"Name;Age\nAda;36\n").text == "Name;Age\nAda;36\n"
    assert extract_office("Name\tAge\n".encode("utf-16")).text == "Name\tAge\n"
    assert refusal(b"\x00\x01\x02 no document").reason == "binary"
    assert refusal(b"MIME-Version: 1.0\nContent-Type: multipart/related\n").reason == "old format"
    assert refusal(b"").reason == "empty"


def test_nothing_that_a_document_names_is_fetched():
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    picture = "<w:p><w:r><w:t>Here: </w:t></w:r></w:p>"
    data = make_package(
        {
            "_rels/.rels": relate(("r1", "officeDocument", "word/document.xml")),
            "word/_rels/document.xml.rels": relate(
                ("r1", "attachedTemplate", f"{address}/template.dotm"),
                ("r2", "image", f"{address}/picture.png"),
                ("r3", "styles", f"{address}/styles.xml"),
                ("r4", "footnotes", "../../../../etc/passwd"),
            ),
            "word/document.xml": f'<!DOCTYPE d SYSTEM "{address}/d.dtd"><w:document xmlns:w="{W}">'
            f"<w:body>{picture}</w:body></w:document>",
        }
    )

    assert FORMATS["docx"].read(data).text == "Here:\n"
    server.shutdown()
    server.server_close()
    assert asked == []


def test_macros_and_embedded_files_are_said_and_not_read():
    data = make_package(
        {
            "_rels/.rels": relate(("r1", "officeDocument", "word/document.xml")),
            "word/document.xml": f'<w:document xmlns:w="{W}"><w:body>{paragraph("Seen.")}</w:body>'
            "</w:document>",
            "word/vbaProject.bin": b"Sub AutoOpen()",
            "word/embeddings/sheet.xlsx": b"PK",
        }
    )

    read = extract_office(data)

    assert read.text == "Seen.\n"
    assert read.note == "its macros are not read; files embedded in it are not read"


def test_an_encrypted_chapter_is_said_and_an_encrypted_font_is_not():
    def book(encrypted: str) -> bytes:
        return make_package(
            {
                "META-INF/container.xml": '<c><rootfile full-path="b.opf"/></c>',
                "META-INF/encryption.xml": f'<e><CipherReference URI="{encrypted}"/></e>',
                "b.opf": '<p><item id="a" href="a.xhtml" media-type="application/xhtml+xml"/>'
                '<itemref idref="a"/></p>',
                "a.xhtml": "<html><body><h1>One</h1><p>Ducks.</p></body></html>",
            }
        )

    assert refusal(book("a.xhtml")).reason == "encrypted"
    assert "Ducks." in extract_office(book("font.otf")).text


def test_an_encrypted_open_document_is_said():
    data = make_package(
        {
            "META-INF/manifest.xml": "<m><file-entry><encryption-data/></file-entry></m>",
            "content.xml": b"\x00\x01",
        }
    )

    assert refusal(data).reason == "encrypted"


def test_a_binary_workbook_is_an_old_format():
    data = make_package(
        {
            "_rels/.rels": relate(("r1", "officeDocument", "xl/workbook.bin")),
            "xl/workbook.bin": S.encode(),
        }
    )

    assert refusal(data).reason == "old format"
