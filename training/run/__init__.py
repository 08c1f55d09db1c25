"""A whole run: task (what it learns from), run (steps, evolution, resuming), watch (signals,
boards)."""
