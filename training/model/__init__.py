"""The network that learns: initial, whitening, inputs, network (two passes), output_layer."""
