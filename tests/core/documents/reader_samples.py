"""A small file of each format, with marker words and the places where they stand.

Each marker occurs once in what a reader of the file sees. The files are written by hand, so that
what stands where is known without the reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.core.documents.office_files import (
    A,
    P,
    R,
    make_docx,
    make_package,
    make_xlsx,
    paragraph,
    relate,
)
from tests.core.documents.test_notebook import code, write
from tests.core.documents.test_pdf import make_pdf

if TYPE_CHECKING:
    from collections.abc import Mapping


class Sample(NamedTuple):
    """A file of one format.

    Attributes:
        data: Its bytes.
        places: Marker words with the place of each; empty for the line given by the text's line.
        headings: Titles of its headings that must be found.
    """

    data: bytes
    places: Mapping[str, str]
    headings: tuple[str, ...] = ()


def _slide(*texts: str) -> str:
    shapes = "".join(
        f"<p:sp><p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
        for text in texts
    )
    return (
        f'<p:sld xmlns:p="{P}" xmlns:a="{A}"><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:sld>'
    )


def _pptx() -> bytes:
    slides = [_slide("First title", "alpha point"), _slide("Second title", "beta point")]
    listed = "".join(f'<p:sldId id="{256 + n}" r:id="s{n}"/>' for n in range(2))
    return make_package(
        {
            "_rels/.rels": relate(("r1", "officeDocument", "ppt/presentation.xml")),
            "ppt/_rels/presentation.xml.rels": relate(
                *((f"s{n}", "slide", f"slides/slide{n}.xml") for n in range(2))
            ),
            "ppt/presentation.xml": f'<p:presentation xmlns:p="{P}" xmlns:r="{R}"><p:sldIdLst>'
            f"{listed}</p:sldIdLst></p:presentation>",
            **{f"ppt/slides/slide{n}.xml": slide for n, slide in enumerate(slides)},
        }
    )


_OD = "urn:oasis:names:tc:opendocument:xmlns"


def _open_document(kind: str, body: str) -> bytes:
    names = "".join(f' xmlns:{n}="{_OD}:{n}:1.0"' for n in ("office", "text", "table"))
    names += f' xmlns:draw="{_OD}:drawing:1.0"'
    content = (
        f'<office:document-content{names} office:version="1.2"><office:body><office:{kind}>{body}'
        f"</office:{kind}></office:body></office:document-content>"
    )
    what = f"application/vnd.oasis.opendocument.{kind}"
    return make_package({"mimetype": what, "content.xml": content})


def _cell(text: str) -> str:
    return (
        f'<table:table-cell office:value-type="string"><text:p>{text}</text:p></table:table-cell>'
    )


def _row(*texts: str) -> str:
    return f"<table:table-row>{''.join(map(_cell, texts))}</table:table-row>"


def _page(*texts: str) -> str:
    boxes = "".join(
        f"<draw:frame><draw:text-box><text:p>{text}</text:p></draw:text-box></draw:frame>"
        for text in texts
    )
    return f"<draw:page>{boxes}</draw:page>"


def _epub() -> bytes:
    chapters = {"one": ("Install", "alpha step"), "two": ("Operate", "beta step")}
    items = "".join(
        f'<item id="{n}" href="{n}.xhtml" media-type="application/xhtml+xml"/>' for n in chapters
    )
    spine = "".join(f'<itemref idref="{n}"/>' for n in chapters)
    pages = {
        f"{n}.xhtml": '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head>'
        f"<body><h1>{title}</h1><p>{text}</p></body></html>"
        for n, (title, text) in chapters.items()
    }
    container = "urn:oasis:names:tc:opendocument:xmlns:container"
    return make_package(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": f'<container xmlns="{container}"><rootfiles><rootfile '
            'full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles>'
            "</container>",
            "book.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
            f"<manifest>{items}</manifest><spine>{spine}</spine></package>",
            **pages,
        }
    )


_CELLS = '<row r="{0}"><c r="A{0}" t="inlineStr"><is><t>{1}</t></is></c></row>'
_HEADING = '<w:pStyle w:val="Heading1"/><w:outlineLvl w:val="0"/>'

_PARAGRAPHS = {
    "alpha": "section Title, paragraph 1",
    "beta": "section Title, paragraph 2",
}

SAMPLES: dict[str, Sample] = {
    "html": Sample(
        b"<h1>Title</h1>\n<p>alpha word\n<p>beta <b>word</b>", {"alpha": "", "beta": ""}
    ),
    "notebook": Sample(
        write(
            {"cell_type": "markdown", "source": "# Title\n\nalpha word"},
            code("x = 1\nbeta = 2", {"output_type": "stream", "text": "one\ngamma shown\n"}),
        ),
        {
            "alpha": "cell 1, line 3",
            "beta": "cell 2, line 2",
            "gamma": "cell 2, output line 2",
        },
        ("Title",),
    ),
    "pdf": Sample(
        make_pdf([["alpha word"], ["Title", "beta word"]], outline=[("Title", 2)]),
        {"alpha": "page 1", "beta": "page 2"},
        ("Title",),
    ),
    "docx": Sample(
        make_docx(paragraph("Title", _HEADING) + paragraph("alpha word") + paragraph("beta word")),
        _PARAGRAPHS,
        ("Title",),
    ),
    "xlsx": Sample(
        make_xlsx(
            ("Budget", _CELLS.format(1, "head") + _CELLS.format(7, "alpha")),
            ("Costs", _CELLS.format(2, "beta")),
        ),
        {"alpha": "sheet Budget, row 7", "beta": "sheet Costs, row 2"},
    ),
    "pptx": Sample(_pptx(), {"alpha": "slide 1", "beta": "slide 2"}),
    "odt": Sample(
        _open_document(
            "text",
            '<text:h text:outline-level="1">Title</text:h><text:p>alpha word</text:p>'
            "<text:p>beta word</text:p>",
        ),
        _PARAGRAPHS,
        ("Title",),
    ),
    "ods": Sample(
        _open_document(
            "spreadsheet",
            f'<table:table table:name="Budget">{_row("head")}{_row("alpha")}</table:table>'
            f'<table:table table:name="Costs">{_row("beta")}</table:table>',
        ),
        {"alpha": "sheet Budget, row 2", "beta": "sheet Costs, row 1"},
    ),
    "odp": Sample(
        _open_document("presentation", _page("First", "alpha") + _page("Second", "beta")),
        {"alpha": "slide 1", "beta": "slide 2"},
    ),
    "epub": Sample(
        _epub(), {"alpha": "chapter Install", "beta": "chapter Operate"}, ("Install", "Operate")
    ),
    "rtf": Sample(
        rb"{\rtf1\ansi Title\par alpha word\par beta word\par}",
        {"alpha": "paragraph 2", "beta": "paragraph 3"},
    ),
}
"""By the language of ``FORMATS``."""

# Old names, behind which newer formats are: what a file is its bytes say.
SAMPLES.update(doc=SAMPLES["rtf"], ppt=SAMPLES["pptx"], xls=SAMPLES["xlsx"])
