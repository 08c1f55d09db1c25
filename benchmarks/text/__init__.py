"""`python -m benchmarks.text MODEL [MODEL ...]`: how good a text model is, and what it costs."""
