"""Data sets -> batches.

datasets (Parquet, the hub), tables and cells (what a column may hold), corpus (tokens), batches.
"""
