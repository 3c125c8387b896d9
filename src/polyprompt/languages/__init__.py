"""Facts about languages."""
