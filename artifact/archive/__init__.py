"""The format of an artifact: how it is written, read, checked and unpacked."""
