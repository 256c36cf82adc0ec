"""What an operator can tell a site to do, one module a command."""
