"""Runs the official RFC 9420 test vectors, and any others in their formats."""
