"""The commands that ask a running server. All end with 0 when all is well, 1 when something is not, 2 when nobody can tell."""
