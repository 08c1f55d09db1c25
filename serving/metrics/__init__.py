"""What is measured and told under /metrics: families (counted and timed as it happens), loaded
(asked when it is scraped), advantage (LuminaNet beside the baseline, from pairs), memory (a file of
measurements), exposition (registry -> text), port (a listener of its own)."""
