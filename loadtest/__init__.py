"""Load over HTTP, by locust, that measures what users would feel. It knows the API and no package
that makes or serves the networks.

In reading order: `plan` draws the times at which requests are to be sent, `workload` what is sent,
`answers` reads what comes back, `samples` is what one request was found to be, `entries` tells
locust's own statistics, `users` send, `pool` and `run` hold an open loop to its times, `stall`
stops a server on purpose, `web` adds to locust's page, and `locustfile` is what locust reads.
"""
