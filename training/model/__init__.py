"""The network that learns: initial, whitening, inputs, text_inputs, network (two passes),
output_layer."""
