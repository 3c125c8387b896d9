"""Who computes a study's groups: this process, several processes, a Ray cluster."""
