"""QR codes: on the terminal, and as drawings for paper."""

from __future__ import annotations

import io

QUIET_MODULES = 2
"""Light border in modules. ISO/IEC 18004 asks four; scanners read two, and a small terminal has no
room to spare."""


def terminal(text: str) -> str:
    """Return a QR code as lines of half blocks, dark on light whatever the terminal's colours."""
    import segno

    out = io.StringIO()
    segno.make(text, error="m", micro=False).terminal(out, border=QUIET_MODULES, compact=True)
    return out.getvalue()


def drawing(text: str) -> str:
    """Return a QR code as an SVG element, for a page that is printed."""
    import segno

    code = segno.make(text, error="m", micro=False)
    return str(code.svg_inline(scale=4, border=4, omitsize=True, svgclass=None, lineclass=None))
