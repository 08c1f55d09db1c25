"""Artifacts -> models: load, selection (which graphs), graph_guard (which bytes), interface,
memory."""
