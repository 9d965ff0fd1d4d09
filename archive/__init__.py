"""The black box on the hospital's premises, and the authority beside it."""
