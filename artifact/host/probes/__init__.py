"""Programs that run in a release's own Python, which need not be the one that runs us."""
