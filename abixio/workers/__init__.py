"""Several processes that serve one pool on one port: a supervisor, and workers of which the first one is the runner."""
