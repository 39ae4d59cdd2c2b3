"""The same plan on this machine: agents and ranks as processes, with a live view."""
