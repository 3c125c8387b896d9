"""Gradient steps over a group of runs."""
