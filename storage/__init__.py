"""What every program here asks of its disk: files that last, databases, and their drivers' errors.

It knows nothing of what it keeps. Relay, device and archive stand on it, each with its own errors.
"""
