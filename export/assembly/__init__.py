"""Network -> artifact: variants (which graphs), build (make, verify), describe (the manifest)."""
