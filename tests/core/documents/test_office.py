"""What is read of office documents, in small files with one property each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.chunking.places import describe_places
from merganser.documents.office import extract_office
from tests.core.documents.office_files import (
    A,
    P,
    R,
    W,
    make_docx,
    make_package,
    make_xlsx,
    paragraph,
    relate,
)

if TYPE_CHECKING:
    from merganser.documents.extracted import Extracted


def lines(read: Extracted) -> list[str]:
    return read.text.splitlines()


def placed(read: Extracted) -> list[tuple[str, str]]:
    return [
        (describe_places(read.places, number, number), line)
        for number, line in enumerate(lines(read), 1)
    ]


def run(text: str, properties: str = "") -> str:
    return f"<w:r><w:rPr>{properties}</w:rPr><w:t>{text}</w:t></w:r>"


def cell(*texts: str, properties: str = "") -> str:
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{''.join(map(paragraph, texts))}</w:tc>"


def table(*rows: str) -> str:
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"


# -- Word ------------------------------------------------------------------------------------------


def test_revisions_are_read_as_the_final_text():
    gone = "<w:trPr><w:del/></w:trPr>" + cell("x") + cell("y")
    body = (
        f"<w:p>{run('pay ')}<w:del><w:r><w:delText>ten</w:delText></w:r></w:del>"
        f"<w:ins>{run('twelve')}</w:ins><w:moveFrom>{run(' now')}</w:moveFrom>"
        f"{run(' pounds')}</w:p>"
        f"<w:del>{paragraph('gone')}</w:del><w:ins>{paragraph('come')}</w:ins>"
        f"{table(cell('a') + cell('b'), gone)}"
    )

    assert lines(extract_office(make_docx(body))) == ["pay twelve pounds", "come", "a | b"]


def test_hidden_text_is_left_out_whatever_hides_it():
    styles = (
        f'<w:styles xmlns:w="{W}"><w:style w:type="character" w:styleId="H"><w:rPr><w:vanish/>'
        '</w:rPr></w:style><w:style w:type="character" w:styleId="H2"><w:basedOn w:val="H"/>'
        '</w:style><w:style w:type="paragraph" w:styleId="P"><w:rPr><w:vanish/></w:rPr></w:style>'
        "</w:styles>"
    )
    shown, styled = '<w:vanish w:val="0"/>', '<w:rStyle w:val="H2"/>'
    first = run("a") + run("b", "<w:vanish/>") + run("c", styled) + run("d", shown)
    second = '<w:pPr><w:pStyle w:val="P"/></w:pPr>' + run("e") + run("f", shown)
    body = f"<w:p>{first}</w:p><w:p>{second}</w:p>"

    assert lines(extract_office(make_docx(body, styles=styles))) == ["ad", "f"]


def test_headings_come_from_styles_and_outline_levels_and_number_the_places():
    styles = (
        f'<w:styles xmlns:w="{W}"><w:style w:type="paragraph" w:styleId="U1">'
        '<w:name w:val="heading 1"/></w:style><w:style w:type="paragraph" w:styleId="Mine">'
        '<w:basedOn w:val="U1"/></w:style></w:styles>'
    )
    body = (
        paragraph("before")
        + paragraph("One", '<w:pStyle w:val="Mine"/>')
        + paragraph("first")
        + paragraph("")
        + paragraph("second")
        + paragraph("Two", '<w:outlineLvl w:val="1"/>')
        + paragraph("third")
        + table(cell("k") + cell("v"), cell("x") + cell("y"))
    )

    read = extract_office(make_docx(body, styles=styles))

    assert placed(read) == [
        ("paragraph 1", "before"),
        ("section One, paragraph 1", "One"),
        ("section One, paragraph 1", "first"),
        ("section One, paragraph 2", "second"),
        ("section One > Two, paragraph 1", "Two"),
        ("section One > Two, paragraph 1", "third"),
        ("section One > Two, table 1, row 1", "k | v"),
        ("section One > Two, table 1, row 2", "x | y"),
    ]
    assert [(h.level, h.title) for h in read.headings or ()] == [(1, "One"), (2, "Two")]


def test_lists_are_numbered_as_they_are_shown():
    def level(number: int, kind: str, text: str) -> str:
        return (
            f'<w:lvl w:ilvl="{number}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/>'
            f'<w:lvlText w:val="{text}"/></w:lvl>'
        )

    numbering = (
        f'<w:numbering xmlns:w="{W}"><w:abstractNum w:abstractNumId="7">'
        f"{level(0, 'decimal', '%1.')}{level(1, 'lowerLetter', '%1.%2)')}{level(2, 'bullet', 'o')}"
        '</w:abstractNum><w:num w:numId="3"><w:abstractNumId w:val="7"/></w:num></w:numbering>'
    )

    def item(text: str, depth: int) -> str:
        return paragraph(text, f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="3"/></w:numPr>')

    body = item("a", 0) + item("b", 1) + item("c", 1) + item("d", 0) + item("e", 1) + item("f", 2)

    assert lines(extract_office(make_docx(body, numbering=numbering))) == [
        "1. a",
        "1.a) b",
        "1.b) c",
        "2. d",
        "2.a) e",
        "- f",
    ]


def test_notes_comments_and_text_boxes_follow_their_paragraph():
    notes = (
        f'<w:footnotes xmlns:w="{W}"><w:footnote w:id="2">{paragraph("See there.")}</w:footnote>'
        "</w:footnotes>"
    )
    comments = (
        f'<w:comments xmlns:w="{W}"><w:comment w:id="5" w:author="Ruth">{paragraph("Sure?")}'
        "</w:comment></w:comments>"
    )
    box = f"<w:txbxContent>{paragraph('Boxed.')}</w:txbxContent>"
    body = (
        f"<w:p>{run('Text')}<w:r><w:footnoteReference w:id='2'/></w:r>{run('.')}"
        "<w:r><w:commentReference w:id='5'/></w:r><w:r><w:AlternateContent><w:Choice>"
        f"{box}</w:Choice><w:Fallback>{box}</w:Fallback></w:AlternateContent></w:r></w:p>"
    )

    assert lines(extract_office(make_docx(body, footnotes=notes, comments=comments))) == [
        "Text.",
        "[footnote: See there.]",
        "[comment by Ruth: Sure?]",
        "Boxed.",
    ]


def test_merged_cells_keep_their_columns_and_repeat_downwards():
    body = table(
        cell("Region") + cell("Town") + cell("People"),
        cell("North", properties='<w:vMerge w:val="restart"/>') + cell("Carlisle") + cell("9"),
        cell("", properties="<w:vMerge/>") + cell("Penrith") + cell("3"),
        cell("all of it", properties='<w:gridSpan w:val="2"/>') + cell("12"),
    )

    assert lines(extract_office(make_docx(body))) == [
        "Region | Town | People",
        "North | Carlisle | 9",
        "North | Penrith | 3",
        "all of it | | 12",
    ]


def test_a_frame_around_text_is_no_table():
    body = table(cell("One.", "Two."), cell("Three."))

    assert lines(extract_office(make_docx(body))) == ["One.", "Two.", "Three."]


# -- PowerPoint ------------------------------------------------------------------------------------


def slide(*shapes: str, show: str = "1") -> str:
    return (
        f'<p:sld xmlns:p="{P}" xmlns:a="{A}" xmlns:r="{R}" show="{show}"><p:cSld><p:spTree>'
        f"{''.join(shapes)}</p:spTree></p:cSld></p:sld>"
    )


def shape(text: str, kind: str = "") -> str:
    placeholder = f'<p:ph type="{kind}"/>' if kind else ""
    return (
        f"<p:sp><p:nvSpPr><p:nvPr>{placeholder}</p:nvPr></p:nvSpPr>"
        f"<p:txBody><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody></p:sp>"
    )


def test_slides_are_read_as_they_are_shown():
    listed = "".join(f'<p:sldId id="{300 + n}" r:id="r{n}"/>' for n in (2, 1))
    data = make_package(
        {
            "_rels/.rels": relate(("r1", "officeDocument", "ppt/presentation.xml")),
            "ppt/_rels/presentation.xml.rels": relate(
                ("r1", "slide", "slides/a.xml"), ("r2", "slide", "slides/b.xml")
            ),
            "ppt/presentation.xml": f'<p:presentation xmlns:p="{P}" xmlns:r="{R}"><p:sldIdLst>'
            f"{listed}</p:sldIdLst></p:presentation>",
            "ppt/slides/a.xml": slide(shape("Later"), shape("Confidential", "ftr"), show="0"),
            "ppt/slides/b.xml": slide(
                shape("Below"),
                shape("On top", "title"),
                f"<p:grpSp>{shape('Grouped')}</p:grpSp>",
                shape("Confidential", "ftr"),
                shape("7", "sldNum"),
            ),
            "ppt/slides/_rels/b.xml.rels": relate(("r1", "notesSlide", "../notes/n.xml")),
            "ppt/notes/n.xml": slide(shape("Say it slowly.", "body"), shape("2", "sldNum")),
        }
    )

    assert placed(extract_office(data)) == [
        ("slide 1", "On top"),
        ("slide 1", "Below"),
        ("slide 1", "Grouped"),
        ("slide 1", "Confidential"),
        ("slide 1", "[notes] Say it slowly."),
        ("slide 2", "[hidden slide]"),
        ("slide 2", "Later"),
    ]


# -- Excel -----------------------------------------------------------------------------------------


def test_cells_show_what_the_sheet_shows():
    styles = (
        '<numFmts><numFmt numFmtId="164" formatCode="0.0%"/></numFmts><cellXfs><xf numFmtId="0"/>'
        '<xf numFmtId="14"/><xf numFmtId="164"/></cellXfs>'
    )
    rows = (
        '<sheetData><row r="3"><c r="B3" t="s"><v>0</v></c><c r="C3" t="inlineStr"><is><t>Day</t>'
        '</is></c></row><row r="4"><c r="B4" s="2"><v>0.125</v></c><c r="C4" s="1"><v>45000</v></c>'
        '<c r="D4" t="b"><v>1</v></c><c r="E4" t="str"><f>A1</f><v>done</v></c>'
        '<c r="F4"><f>SUM(A1:A3)</f></c><c r="G4" t="e"><v>#DIV/0!</v></c></row></sheetData>'
    )

    read = extract_office(make_xlsx(("Sums", rows), styles=styles, texts=("Share",)))

    assert placed(read) == [
        ("sheet Sums, row 3", "Sums"),
        ("sheet Sums, row 3", "Share | Day"),
        ("sheet Sums, row 4", "12.5% | 2023-03-15 | TRUE | done | =SUM(A1:A3) | #DIV/0!"),
    ]


def test_merged_cells_of_a_sheet_repeat_downwards():
    rows = (
        '<sheetData><row r="1"><c r="A1" t="str"><v>North</v></c><c r="B1"><v>1</v></c></row>'
        '<row r="2"><c r="B2"><v>2</v></c></row></sheetData>'
        '<mergeCells><mergeCell ref="A1:A2"/></mergeCells>'
    )

    assert lines(extract_office(make_xlsx(("S", rows))))[1:] == ["North | 1", "North | 2"]


def test_each_chunk_of_rows_has_the_header_of_its_table():
    def row(number: int, *texts: str) -> str:
        cells = "".join(f'<c t="str"><v>{text}</v></c>' for text in texts[:2])
        return f'<row r="{number}">{cells}<c><v>{number}</v></c></row>'

    head = '<row r="1">' + "".join(f'<c t="str"><v>{t}</v></c>' for t in ("Name", "Town", "Rank"))
    rows = head + "</row>" + "".join(row(n, f"Person {n}", "Kendal") for n in range(2, 40))
    read = extract_office(make_xlsx(("People", rows), ("Other", row(1, "x", "y"))))

    chunks = chunk_document(
        read.text,
        language="xlsx",
        options=ChunkingOptions(size=200, overlap=0),
        headings=read.headings,
        places=read.places,
        tables=read.tables,
    )

    people = [chunk for chunk in chunks if chunk.place.startswith("sheet People")]
    assert len(people) > 3
    assert all("Name | Town | Rank" in chunk.text for chunk in people)
    assert all(len(chunk.text) <= 200 for chunk in chunks)
    assert "Name" not in chunks[-1].text
    assert people[1].text.startswith("Name | Town | Rank\nPerson")


# -- RTF -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (rb"\ansicpg1251 \'cf\'f0\'e8\'e2\'e5\'f2", "Привет"),
        (rb"{\fonttbl{\f0\fcharset128 M;}{\f1\fcharset0 A;}}\f0\'93\'fa\'96\'7b\f1\'e9", "日本é"),
        (rb"\uc1\u8364?\u-10179?\u-8704?", "€😀"),
        (rb"\uc2\u233\'65\'65x", "éx"),
        (rb"a{\v hidden}b{\deleted gone}c\v d\v0 e", "abce"),
        (rb"{\field{\*\fldinst HYPERLINK x}{\fldrslt link}}", "link"),
        (rb"{\pict\bin5 {}{}}}after", "after"),
        (rb"{\upr{plain}{\*\ud{unicode}}}", "unicode"),
        (rb"{\*\unknown no}yes", "yes"),
        (rb"a\~b\_c\-d \{e\}", "a b-cd {e}"),
    ],
)
def test_rtf_shows_what_a_word_processor_shows(body: bytes, shown: str):
    assert lines(extract_office(rb"{\rtf1\ansi " + body + b"}")) == [shown]


def test_rtf_has_tables_notes_and_headings():
    data = (
        rb"{\rtf1{\stylesheet{\s1 heading 1;}}\pard\s1 Costs\par\pard Each{\footnote Yearly.}"
        rb" pays.\par"
        rb"\trowd\intbl A\cell B\cell\row\trowd\intbl 1\cell 2\cell\row\pard End.\par}"
    )

    assert placed(extract_office(data)) == [
        ("section Costs, paragraph 1", "Costs"),
        ("section Costs, paragraph 1", "Each pays."),
        ("section Costs, paragraph 1", "[footnote: Yearly.]"),
        ("section Costs, table 1, row 1", "A | B"),
        ("section Costs, table 1, row 2", "1 | 2"),
        ("section Costs, paragraph 2", "End."),
    ]
