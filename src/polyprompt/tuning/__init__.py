"""Parts: what is added to a backbone and trained."""
