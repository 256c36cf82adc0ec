"""The programs a server runs that we talk to."""
