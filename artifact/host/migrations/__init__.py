"""Migrations of a release: previewed, listed, run and taken back, and what a killed run left."""
