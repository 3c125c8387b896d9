"""From test examples to predictions."""
