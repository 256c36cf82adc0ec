"""What a site must survive: `scripts/torture NAME`. The suite runs small versions of these."""
