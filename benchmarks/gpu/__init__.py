"""What a GPU is worth; see README.md beside this file."""
