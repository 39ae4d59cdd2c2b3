"""The same plan on this machine: agents and ranks as processes, with a live view. Called by cli/ and by the demo."""
