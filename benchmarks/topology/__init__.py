"""What does a topology choose that matters at the end? `python -m benchmarks.topology`.

Read in this order:

    arms      what is compared: topologies of equal cost, some by hand, some drawn by chance
    trained   one arm trained -> its figures on the held-out images
    map       figures -> the table, the picture, and which choices spread beyond seeds
    __main__  the command: performs what is missing, writes map.json, map.md and map.svg
    selection does a run that selects its receptive fields beat chance? A command of its own
"""
