"""From files to batches: readers, few-shot draws, encoding."""
