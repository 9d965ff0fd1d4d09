"""How deep the tests search that could go on for ever: properties and random walks.

One option for all: ``WARDLINE_DEPTH`` in the environment, 1 in ``make test``, more in
``make fuzz``.
"""

from __future__ import annotations

import os

DEPTH = int(os.environ.get("WARDLINE_DEPTH", "1"))
"""Factor by which examples and steps are multiplied."""
