"""The networks LuminaNet is compared with, trained by the same command.

gpt2 is for text; the others are for images and listed, with their sizes, in registry: lenet5,
alexnet, resnet, mlp_mixer, resmlp, deit, mobilevit, of common blocks.
"""
