"""The child processes of an agent: ranks and preparation, forked from one warm server."""
