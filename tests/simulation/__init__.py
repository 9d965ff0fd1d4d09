"""Deterministic simulation: relay, recorder and devices in one process, by seed.

Everything runs as it does live but for three things: the clock is the loop's and stands still
while anybody computes, sockets are pipes that delay, cut, drop, double and reorder, and the
relay's store is the model that the real one is held to.
"""
