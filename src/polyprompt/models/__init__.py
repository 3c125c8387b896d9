"""Backbones: the border to transformers."""
