"""The only code that talks to Kubernetes. Rendering is pure; the other folders do I/O."""
