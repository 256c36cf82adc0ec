"""The environment: its interpreter, its key, how it is compiled, kept and checked."""
