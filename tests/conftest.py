"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# An example that is slow on a busy machine is no fault; speed is measured in bench/.
settings.register_profile("wardline", deadline=None)
settings.load_profile("wardline")
