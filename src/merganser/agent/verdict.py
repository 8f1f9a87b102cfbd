"""Decide what becomes of a model's text: an answer, a part of one, a quotation, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from merganser.agent.claims import Asked, Claim, abstains, answers_type, check_claims, refuse
from merganser.agent.quotation import quote_passages, show_quotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.agent.answer import Outcome
    from merganser.agent.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a text.

    Attributes:
        outcome: As in ``Answer``.
        text: What the user is shown: the model's text, or a quotation in its place.
        claims: Of the model's text; empty when it was not looked at or makes no statement.
        reason: Why the model's text does not stand; "" when it does.
    """

    outcome: Outcome
    text: str
    claims: tuple[Claim, ...] = ()
    reason: str = ""


def judge_text(
    text: str,
    question: str,
    passages: Sequence[Evidence],
    *,
    quotable: Sequence[Evidence] | None = None,
    finish_reason: str | None = None,
    invalid: bool = False,
    copied: bool = False,
) -> Verdict:
    """Hold a text against the passages that the model was shown.

    Args:
        text: The model's, without reasoning.
        question: What was asked.
        passages: What the text may rest on.
        quotable: What may be quoted in its place, best first; ``passages`` when left out.
        finish_reason: Of the model's last response.
        invalid: It cites what was never retrieved, so that nothing in it is relied on.
        copied: It is nothing but lines and places of the passages.

    >>> from merganser.agent.evidence import Evidence
    >>> shown = [Evidence("a.md", 1, 1, "A merganser eats fish.", id=1)]
    >>> judge_text("It eats fish [1].", "What does a merganser eat?", shown).outcome
    'answered'
    >>> print(judge_text("Cake.", "What does a merganser eat?", shown).text)
    The documents say:
    <BLANKLINE>
    > A merganser eats fish.
    <BLANKLINE>
    a.md:1-1 [1]
    """
    asked = Asked.of(question, passages if quotable is None else quotable)
    reason = refuse(text, finish_reason=finish_reason)
    if not reason and abstains(text):
        return Verdict("no answer", text, reason="the model found no answer")
    claims = check_claims(text, asked, passages) if not reason else tuple[Claim, ...]()
    if invalid:
        return Verdict("unsupported", text, claims, "it cites what was never retrieved")
    if copied:
        reason = "it only copies its sources"
    if not reason and not claims:
        reason = "it states nothing"
    if not reason and any(claim.holds for claim in claims):
        if answers_type(asked, claims):
            whole = all(claim.holds for claim in claims)
            return Verdict("answered" if whole else "partly", text, claims)
        reason = f"the question asks for a {asked.wants}"
        claims = tuple(
            replace(claim, reason=claim.reason or reason, source=None) for claim in claims
        )
    reason = reason or claims[0].reason
    if quotations := quote_passages(asked, passages if quotable is None else quotable):
        return Verdict("quoted", show_quotations(quotations), claims, reason)
    return Verdict("unsupported" if claims else "no answer", text, claims, reason)
