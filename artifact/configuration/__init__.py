"""What people write down: artifact.toml, site.toml, and how their values are checked."""
