"""Tests of what the soak stands on; the soak itself is its own test."""
