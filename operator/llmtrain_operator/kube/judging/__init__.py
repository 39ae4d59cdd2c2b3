"""Plans of manifests, and answers to admission reviews, made in a separate process so that no manifest can block the operator."""
