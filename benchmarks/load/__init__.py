"""`python -m benchmarks.load`, what `make load` runs: a server under locust, and a page about it.

In reading order: `watch` looks at what processes take, `drive` runs
locust against it, `figures` makes numbers of samples, `charts` and `page` show them, `pause` shows
what a closed loop hides. Its results lie beside it, a folder a day.
"""
