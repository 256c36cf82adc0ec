"""What `scripts/bootstrap` packs the tool with."""
