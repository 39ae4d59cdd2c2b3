"""Environment variables by which an agent configures the warm server that its ranks fork from."""

PARENT = "LLMTRAIN_AGENT_PID"
"""Environment variable of the server: the process whose death ends it, and with it every rank."""

SERVER = "LLMTRAIN_SERVER_PID"
"""Environment variable of the server's children: the process whose death ends each of them."""

MODULES = "LLMTRAIN_PRELOAD"
"""Environment variable of the server: modules to import before the first fork, separated by commas."""
