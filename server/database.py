"""What goes wrong in the relay's databases, as errors of the store."""

from __future__ import annotations

from server.store import DamagedError, StoreError, StoreFailedError, StoreFullError
from storage.database import Fault, fault_of


def translated(error: Exception, where: str) -> StoreError:
    """Give the store's error for a driver's; ``where`` names the file, never its content."""
    fault = fault_of(error)
    if fault is Fault.FULL:
        return StoreFullError()
    if fault is Fault.DAMAGED:
        return DamagedError(where)
    return StoreFailedError()
