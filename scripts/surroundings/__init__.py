"""The real things around the product, each started or made in one place.

Tests, benchmarks, tortures and the demo share them. Servers listen on loopback or on sockets of
their own, are ready when a call returns, and are ended by their own pid.
"""
