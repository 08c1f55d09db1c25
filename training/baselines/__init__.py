"""The networks LuminaNet is compared with, trained by the same command."""
