"""``python -m client_cli`` is ``wardline``."""

from __future__ import annotations

import sys

from client_cli.start import main

if __name__ == "__main__":
    sys.exit(main())
