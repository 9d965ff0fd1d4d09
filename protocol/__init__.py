"""What two Wardline programs must agree on: frames, session states, statements, limits. Pure."""
