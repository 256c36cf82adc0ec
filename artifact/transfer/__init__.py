"""Brings artifacts from a store: only what is not here yet, and nothing twice."""
