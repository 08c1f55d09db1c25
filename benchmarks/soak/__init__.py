"""`python -m benchmarks.soak`: thousands of mixed requests, some broken and some broken off.

In reading order: `mix` draws what is sent, `clients` send it and say what came back, `probe` asks
for the server's health all the while, `laws` hold what was sent against what the server counted,
and `__main__` is the command.
"""
