"""The service, watched: what Prometheus records and when it warns, and what Grafana shows.

Read in this order: board (what a dashboard is, in our words), dashboards (the five of them, and the
command that writes their JSON), render (our words -> Grafana's JSON), live (a Prometheus of one's
own, and what it answers), load (bounded load for a server), plots
(answers -> pictures), draw (the command that draws them). The configuration itself is beside it:
`prometheus/` has rules, alerts and their unit tests, `grafana/` what Grafana is provisioned with.
"""
