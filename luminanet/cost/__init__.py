"""What a network costs: macs (multiply-accumulates), lowerings and graph_work (what a graph makes a
runtime do), latency (predicted microseconds)."""
