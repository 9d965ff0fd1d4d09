"""Read by every Python that starts with this folder on its path: see ``tests.scenarios.sooner``."""

import os
import sys

from protocol import limits

limits.RECEIPT_SILENCE_MS = int(os.environ["WARDLINE_SILENCE_MS"])

if "client_cli" in sys.orig_argv:
    from client import steward

    steward.RANK_MS = int(os.environ["WARDLINE_RANK_MS"])
