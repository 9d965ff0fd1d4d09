"""Tests of what the demo stands on; the night itself is its own test."""
