"""Directories of a site: unpacked, compared, linked, shared."""
