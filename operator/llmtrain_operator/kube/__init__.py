"""The only code that knows a cluster: rendering is pure, the edges beside it are not."""
