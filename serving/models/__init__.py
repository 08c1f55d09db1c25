"""Artifacts -> models: load, selection (which graphs), graph_guard (which bytes), decode_logits
(what decode graphs give besides), interface, memory."""
