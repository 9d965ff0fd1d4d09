"""The pass-through relay: logs and cursors, and nothing that could read what they carry."""
