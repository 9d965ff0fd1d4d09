"""The colours of the lock screen and the desk, by day and by night."""

from __future__ import annotations

from textual.theme import Theme

LIGHT = Theme(
    name="ward-light",
    primary="#1d4ed8",
    foreground="#111111",
    background="#ffffff",
    surface="#ffffff",
    panel="#e5e7eb",
    dark=False,
    warning="#b45309",
    error="#b91c1c",
)
DARK = Theme(
    name="ward-dark",
    primary="#60a5fa",
    foreground="#f3f4f6",
    background="#101418",
    surface="#101418",
    panel="#27303a",
    dark=True,
    warning="#b45309",
    error="#b91c1c",
)
