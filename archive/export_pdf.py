"""The transcript as a PDF, for a reader who wants paper. It proves nothing: the other files do."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import reportlab
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer

from protocol.opening import OpeningRequest

_FONT = "Vera"
_BOLD = "VeraBd"
_MARGIN = 20 * mm


@cache
def _styles() -> tuple[ParagraphStyle, ParagraphStyle, ParagraphStyle]:
    # The library's own fonts, because the standard ones of PDF stop at Latin-1.
    fonts = Path(reportlab.__file__).parent / "fonts"
    for name in (_FONT, _BOLD):
        pdfmetrics.registerFont(TTFont(name, str(fonts / f"{name}.ttf")))
    body = ParagraphStyle("body", fontName=_FONT, fontSize=9, leading=12)
    head = ParagraphStyle("head", parent=body, fontName=_BOLD, textColor="#444444", spaceBefore=4)
    title = ParagraphStyle("title", parent=head, fontSize=13, leading=18, textColor="#000000")
    return body, head, title


def transcript_pdf(request: OpeningRequest, lines: list[dict[str, Any]]) -> bytes:
    """Return the transcript of an opening.

    Args:
        request: What was asked.
        lines: As in ``transcript.jsonl``.
    """
    made = io.BytesIO()
    document = SimpleDocTemplate(
        made,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=f"Case {request.case}",
        invariant=True,
    )
    document.build(list(_story(request, lines)))
    return made.getvalue()


def _story(request: OpeningRequest, lines: list[dict[str, Any]]) -> Iterator[Flowable]:
    body, head, title = _styles()
    yield Paragraph(_text(f"Case {request.case}"), title)
    yield Paragraph(_text(request.reason), body)
    yield Spacer(1, 6 * mm)
    group = None
    for line in lines:
        if line["group"] != group:
            group = line["group"]
            yield Paragraph(_text(f"Conversation {str(group)[:16]}"), title)
        fault = f" [{line['fault']}]" if line["fault"] else ""
        yield Paragraph(_text(f"{line['sent']}  {line['sender']}  {line['kind']}{fault}"), head)
        if line["text"]:
            yield Paragraph(_text(str(line["text"])), body)


def _text(words: str) -> str:
    return escape(words).replace("\n", "<br/>")
