"""Is a graph right: verify and verify_decode (against numpy), examples and assess (at its task),
timing, probing (on another machine)."""
