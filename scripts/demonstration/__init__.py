"""What `scripts/demo` plays."""
