"""Migrations of a release: looked at, run, and what was interrupted or is newer than the code."""
