"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

from tests.depth import DEPTH

EXAMPLES = 100
"""Of each property that does not say how many: Hypothesis's own number."""

# An example that is slow on a busy machine is no fault; speed is measured in bench/.
settings.register_profile("wardline", deadline=None, max_examples=EXAMPLES * DEPTH)
settings.load_profile("wardline")
