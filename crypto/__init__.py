"""Wardline's cryptography: pure functions and immutable values, no I/O, no clock, no logging."""
