"""Masks: a text hides what they cover, and every line of it stays where it was."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from merganser.documents.masking import Mask, MaskedText

TEXTS = st.text(alphabet="ab\r\n ü猫\x85\u2028", max_size=40)


@st.composite
def texts_with_masks(draw: st.DrawFn) -> tuple[str, list[Mask]]:
    text = draw(TEXTS)
    starts = st.integers(0, max(len(text) - 1, 0))
    masks = draw(st.lists(st.tuples(starts, st.integers(1, 9)), max_size=5 if text else 0))
    return text, [
        Mask(start, min(start + length, len(text)), f"[{number}]")
        for number, (start, length) in enumerate(masks)
    ]


@given(texts_with_masks())
def test_the_number_of_lines_stays(case: tuple[str, list[Mask]]):
    text, masks = case

    masked = MaskedText(text, masks)

    assert masked.text.count("\n") == text.count("\n")


@given(texts_with_masks())
def test_what_no_mask_covers_is_found_where_it_is_said_to_be(case: tuple[str, list[Mask]]):
    text, masks = case
    masked = MaskedText(text, masks)

    for position, character in enumerate(text):
        if not any(mask.start <= position < mask.end for mask in masks):
            assert masked.text[masked.move(position)] == character
            lines = text.count("\n", 0, position)
            assert masked.text.count("\n", 0, masked.move(position)) == lines


@given(texts_with_masks())
def test_only_line_ends_of_what_is_covered_stay(case: tuple[str, list[Mask]]):
    text, masks = case
    covered = {i for mask in masks for i in range(mask.start, mask.end)}
    bare = [Mask(mask.start, mask.end, "") for mask in masks]

    shown = MaskedText(text, bare).text

    kept = "".join(c for i, c in enumerate(text) if i not in covered or c in "\r\n")
    assert shown.replace("\r", "") == kept.replace("\r", "")


def test_masks_that_overlap_hide_together_under_the_mark_of_the_first():
    masks = [Mask(4, 9, "[secret]"), Mask(0, 6, "[data]")]

    assert MaskedText("abcdefghijk", masks).text == "[secret]jk"


def test_a_text_without_masks_is_the_same_object():
    text = "as it is\n"

    assert MaskedText(text, []).text is text
