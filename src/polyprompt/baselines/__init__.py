"""What needs no soft prompt, on the same examples: the honest comparison."""
