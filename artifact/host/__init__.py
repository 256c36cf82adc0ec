"""On the server: install, activate, watch."""
