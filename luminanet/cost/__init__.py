"""What a network costs: model (work and its price), macs (multiply-accumulates), lowerings and
graph_work (what a graph makes a runtime do), latency (predicted microseconds)."""
