"""What is read of an HTML file, and where it says it stands."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merganser.chunking import Chunk, ChunkingOptions, chunk_document
from merganser.documents.html_text import read_html
from merganser.documents.reading import read_document
from merganser.documents.scanning import scan_documents
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from pathlib import Path

PAGE = """\
<!DOCTYPE html>
<html><head><title>Ducks &amp; divers</title>
<style>p { color: red }</style>
<script>
  if (a < b) document.write("<p>never shown</p>");
</script></head>
<body>
<nav><ul><li><nav>deep</nav><li>Home</ul></nav>
<div role="navigation">Side<div>bar</div></div>
<h1>Mergansers<a class="headerlink" href="#m">¶</a></h1>
<p>They <em>di</em>ve
for&nbsp;fish.<p>Next one.</p>

<h2>Food
</h2><table><tr><td>roach</td><td>perch</td></tr></table>
<pre>
def dive():
    # a comment, no heading
</pre>
<h2>Range</h2>
From A&#10;to B, R&D.
</body></html>
"""


def chunks_of(folder: Path, source: str | bytes, size: int = 60) -> list[Chunk]:
    (folder / "page.html").write_bytes(source.encode() if isinstance(source, str) else source)
    (document,) = scan_documents(["page.html"], base=folder).documents
    read = read_document(document)
    options = ChunkingOptions(size=size, overlap=0)
    return chunk_document(
        read.text, language=document.language, options=options, headings=read.headings
    )


def test_each_line_holds_what_is_shown_of_it():
    text, headings, *_ = read_html(PAGE.encode())

    shown = {number: line for number, line in enumerate(text.split("\n"), 1) if line}
    assert shown == {
        2: "Ducks & divers",
        10: "Mergansers¶",
        11: "They dive",
        12: "for fish. Next one.",
        14: "Food",
        15: "roach | perch",
        17: "def dive():",
        18: "    # a comment, no heading",
        20: "Range",
        21: "From A to B, R&D.",
    }
    assert text.count("\n") == PAGE.count("\n")
    assert [(h.level, h.title) for h in headings or ()] == [
        (1, "Mergansers"),
        (2, "Food"),
        (2, "Range"),
    ]


def test_chunks_bear_headings_and_the_lines_of_the_file(tmp_path: Path):
    chunks = chunks_of(tmp_path, PAGE, size=70)

    assert [(c.symbol, c.start_line, c.end_line) for c in chunks] == [
        ("", 2, 2),
        ("Mergansers", 10, 12),
        ("Mergansers > Food", 14, 18),
        ("Mergansers > Range", 20, 21),
    ]
    assert all(c.text.strip("\n") == c.text for c in chunks)


def test_a_page_on_one_line_is_cut_at_its_headings(tmp_path: Path):
    page = "<h1>One</h1><p>" + "words " * 30 + "</p><h1>Two</h1><p>" + "more " * 2000

    chunks = chunks_of(tmp_path, page, size=200)

    assert {c.symbol for c in chunks} == {"One", "Two"}
    assert {(c.start_line, c.end_line) for c in chunks} == {(1, 1)}
    assert not [c for c in chunks if c.text.split()[0] not in {"One", "Two", "words", "more"}]


def test_a_declared_charset_is_heeded(tmp_path: Path):
    page = '<meta charset="koi8-r"><p>утка'.encode("koi8-r")

    assert [c.text for c in chunks_of(tmp_path, page)] == ["утка"]


@pytest.mark.parametrize("page", ["<script>app()</script><div id=app></div>", "<nav>Home</nav>"])
def test_a_page_that_shows_nothing_is_skipped_as_empty(tmp_path: Path, page: str):
    with pytest.raises(SkipDocument) as caught:
        chunks_of(tmp_path, page)

    assert caught.value.reason == "empty"


def test_a_declaration_that_nobody_knows_hides_itself_alone():
    text, *_ = read_html(b"<p>before</p><![unknown[x]]><p>after</p>\nlast <![")

    assert text == "before after\nlast"


@pytest.mark.parametrize(
    "piece",
    [
        *("<a ", "<a b='", '<a b="', "<a b=", "<!--", "<![", "</", "<?", "<", "&", "&#"),
        *(
            "<p><b>",
            "<b a=1><p>",
            "<x></y>",
            "<div></b>",
            "<svg><desc></p>",
            "<table><td><b hidden>",
        ),
        *("<style>.a{display:none}</style><p class=a>", "<style>{", "<p style='x", "<title>{"),
        *("<script>", "</script", "<title>", "<h1>", "<nav>", "</nav>", "<a/", "<a =", "<pre>"),
    ],
)
def test_what_is_never_closed_takes_time_in_proportion(piece: str):
    # With the square of the length it would take longer than a test may.
    read_html((piece * 2_000_000)[:2_000_000].encode())


def test_a_heading_that_is_never_closed_has_a_short_title():
    _, headings, *_ = read_html(b"<h1>" + b"words " * 100_000)

    assert [len(heading.title) for heading in headings or ()] == [200]


def test_content_of_raw_elements_ends_at_their_end_tag_alone():
    page = (
        b"<title>a <b>&amp; c</title>d<script>a <p) x = '</p>'</SCRIPT >e<textarea><p></textarea>"
    )

    assert read_html(page).text == "a <b>& c de <p>"


@pytest.mark.parametrize(
    ("page", "seen"),
    [
        # end tags that are missing or in the wrong place
        ("<header><nav><ul><li>no</header><main>text", "text"),
        ("<p>a<svg><path d='M0 0'/></p><p>b", "a b"),
        ("<svg><desc>no</desc><text>drawn</text>not</svg>text", "drawn text"),
        ("<p hidden>no<p>text", "text"),
        ("<p hidden>no<div>text</div>", "text"),
        ("<ul><li hidden>no<li>text</ul>", "text"),
        ("<dl><dt hidden>no<dd>text</dl>", "text"),
        ("<table><tr><td hidden>no<td>a<tr><td>b</table>", "a b"),
        ("<table hidden><tr><td>no</td></tr>text</table>", "text"),
        ("<b hidden>no<div>no</b>text</div>", "text"),
        ("<p><b hidden>no</p><p>no</b>text", "text"),
        ("<table><tr><td><b hidden>no<td>text</table>", "text"),
        ("<a hidden>no<a>text", "text"),
        ("<div hidden><span>no</p>no</div>text", "text"),
        ("<form hidden><div>no</form>no</div>text", "text"),
        ("<div/ hidden>no", ""),
        ("<option hidden>no<option>text", "text"),
        # hidden by attribute, style, rule, class
        ("<p hidden>no</p>text", "text"),
        ("<p hidden='until-found'>text", "text"),
        ("<p style='DISPLAY : none'>no</p>text", "text"),
        ("<p style='display&#58;none'>no</p>text", "text"),
        ("<p style='visibility:hidden'>no <b style='visibility:visible'>text</b>", "text"),
        (
            "<p style='font-size:0'>no<b style='font-size:1em'>no<b style='font-size:9px'>text",
            "text",
        ),
        ("<p style='opacity:0.0'>no</p><p style='opacity:.5'>text", "text"),
        ("<p style='color:#fff'>no</p><p style='color:#eee'>text", "text"),
        (
            "<div style='background:#000'><p style='color:#fff'>text<p style='color:rgb(0,0,0)'>no",
            "text",
        ),
        ("<link rel=stylesheet href=a><p class=x style='color:white'>text", "text"),
        ("<p style='position:absolute;left:-9999px'>no</p>text", "text"),
        ("<p style='width:0;height:0;overflow:hidden'>no</p>text", "text"),
        ("<p class='lead sr-only'>no</p><p aria-hidden=true>text", "text"),
        (
            "<style>.a{display:none}#b,i{display:none}</style><p class=a>no<p id=b>no</p>text<i>no",
            "text",
        ),
        ("<p class=a>no</p>text<style>.a{display:none}</style>", "text"),
        ("<style>.a{display:none} p.a{display:block}</style><p class=a>text<b class=a>no", "text"),
        ("<style>.a{display:none}</style><p class=a style='display:block'>text", "text"),
        ("<style>.a{display:none!important}</style><p class=a style='display:block'>no", ""),
        ("<style>@media print{p{display:none}} @media screen{.b{top:0}}</style><p>text", "text"),
        ("<style>@media screen{.b{display:none}}</style><p class=b>no<p>text", "text"),
        ("<style>/* .a{display:none} */ .c:hover{display:none}</style><p class='a c'>text", "text"),
        ("<body style='opacity:0'>text", "text"),
        # what a page shows beside its text
        ("<img alt='a &amp; b'><input value=c><input type=hidden value=no>", "a & b c"),
        ("<input placeholder=a><input type=submit value=b><textarea>c</textarea>", "a b c"),
        ("<details><summary>a</summary>b</details><template>no</template>", "a b"),
        ("<noscript>no</noscript><dialog>no</dialog><dialog open>text", "text"),
        ("Do&shy;nau<wbr>dampf un<i>break</i>able", "Donaudampf unbreakable"),
        ("<table><tr><th>a<th>b<tr><td>c<td>d", "a | b c | d"),
        ("<title>a</title><p>b<title>no</title>", "a b"),
    ],
)
def test_what_a_reader_sees_is_read(page: str, seen: str):
    assert read_html(page.encode()).text.strip() == seen


@pytest.mark.parametrize(
    "page",
    [
        "{% extends 'base.html' %}<p>{{ name }}",
        "<p>Hello<a href=\"{% url 'logout' %}\">out</a>",
        "<li v-for='duck in ducks'>{{ duck }}</li>",
        "<p *ngIf='ready'>x</p>",
        "<?php echo $name ?>",
        "<title>{{ page.title }}</title>",
    ],
)
def test_a_template_is_read_as_it_is(page: str):
    read = read_html(page.encode())

    assert (read.text, read.headings) == (page, None)


def test_a_page_about_templates_is_no_template():
    read = read_html(b"<p>Write <code>{{ name }}</code> or <pre>{% for duck in ducks %}</pre>")

    assert read.text == "Write {{ name }} or {% for duck in ducks %}"


def test_a_self_closing_tag_closes_in_xhtml_alone():
    assert read_html(b"<?xml version='1.0'?><div hidden='hidden'/>text").text == "text"
    assert read_html(b"<div hidden />no").text == ""


def test_what_hides_holds_at_any_depth():
    page = "<div>" * 600 + "<div hidden>no" + "<div>" * 600 + "</div>" * 601 + "text"

    assert read_html(page.encode()).text == "text"


FRAGMENTS = st.sampled_from(
    [
        *("<p>", "</p>", "<b>", "</b>", "<h1>", "</h1>", "<h3 id=x>", "</h3>", "<br/>", "<pre>"),
        *("</pre>", "<nav>", "</nav>", "<script>", "</script>", "<!-- \n -->", "<![CDATA[", "]]>"),
        *("<a href='\n'>", "</a>", "<", ">", "&", "&amp;", "&#10;", "&lt", "<?php\n?>", "<!", "</"),
        *("\n", "\r\n", "\n\n\n\n", "\r", " ", "\t", "\x85", "\u2028", "title='", '"', "<td\n>"),
    ]
)
WORD = re.compile(r"w(\d+)w")


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(st.one_of(FRAGMENTS, st.just("WORD")), max_size=60),
    size=st.integers(2, 90),
    overlap=st.integers(0, 30),
)
def test_whatever_is_shown_stands_on_its_line(parts: list[str], size: int, overlap: int):
    source = "".join(f"w{n}w" if part == "WORD" else part for n, part in enumerate(parts))
    lines = {m[0]: source.count("\n", 0, m.start()) + 1 for m in WORD.finditer(source)}

    text, headings, *_ = read_html(source.encode())
    options = ChunkingOptions(size=size, overlap=overlap)
    chunks = chunk_document(text, language="html", options=options, headings=headings)

    assert text.count("\n") == source.count("\n")
    assert {m[0]: text.count("\n", 0, m.start()) + 1 for m in WORD.finditer(text)}.items() <= (
        lines.items()
    )
    assert all(text[h.start :].startswith(h.title.split()[0]) for h in headings or ())
    for chunk in chunks:
        assert chunk.text == text[chunk.start_char : chunk.end_char]
        # A template is kept as text is, whose chunks may be blank where blanks fill them.
        assert chunk.text.strip() or headings is None
        assert chunk.start_line == text.count("\n", 0, chunk.start_char) + 1
        assert chunk.end_line == text.count("\n", 0, chunk.end_char - 1) + 1
    covered = {at for c in chunks for at in range(c.start_char, c.end_char)}
    assert all(text[at].isspace() for at in range(len(text)) if at not in covered)


def test_a_page_that_takes_longer_than_it_may_is_failed_and_named(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("merganser.documents.html_text._CPU_SECONDS", -1)

    with pytest.raises(SkipDocument, match="took longer"):
        read_html(PAGE.encode())
