"""The operator at work: watches, queue, leader election, reconcile, and the writes that it makes."""
