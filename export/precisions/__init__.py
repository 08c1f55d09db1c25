"""A graph in other precisions, and how good it still is: convert.py is the door."""
