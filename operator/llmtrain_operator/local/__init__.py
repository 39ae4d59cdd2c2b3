"""Runs the plan of a job on this machine: agents and ranks as processes, with a live view."""
