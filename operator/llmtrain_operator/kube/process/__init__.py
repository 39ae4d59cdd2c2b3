"""The operator's process: watches, queue, leader election, reconcile, and writes."""
