"""Asset steps: what they read and write, and how their outputs are kept."""
