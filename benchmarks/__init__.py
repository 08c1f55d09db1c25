"""Measurements, one command each; their tables in README.md and here are written by them."""
