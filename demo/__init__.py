"""One night on a ward, with real processes: what Wardline claims, done and measured."""
