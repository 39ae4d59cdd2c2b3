"""What ended an attempt: the failure, the rules that diagnose it, and the remedy. Pure."""
