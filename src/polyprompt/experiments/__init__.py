"""Studies: from YAML to run folders."""
