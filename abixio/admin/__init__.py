"""The admin surface: a JSON router under `/_admin/` for the root credential, the jobs it starts, and the client for it."""
