"""Bytes of a picture -> pixels: containers (what a file may hold), orientation, colours, pixels;
arrays (decoded pictures, as numpy saves them)."""
