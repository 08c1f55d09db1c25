"""`python -m benchmarks.peers`: the same image classifier behind other servers, and ours.

In reading order: `classifier` is what every other server runs, `fastapi_app`, `litserve_app` and
`bentoml_app` serve it, each as its documentation advises, `contenders` start them, `wrk` drives
them, and `__main__` is the command. The apps run in an environment of their own, made of
requirements/peers.txt, and import nothing else of this repository.
"""
