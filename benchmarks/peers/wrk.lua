-- Posts the file PEERS_BODY again and again; prints what was measured as one line of JSON.
local file = io.open(os.getenv("PEERS_BODY"), "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = os.getenv("PEERS_KIND")
file:close()

function done(summary, latency, requests)
  local e = summary.errors
  print(string.format('{"requests": %d, "seconds": %f, "p50_s": %f, "p99_s": %f, "errors": %d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e6,
    latency:percentile(99) / 1e6, e.connect + e.read + e.write + e.status + e.timeout))
end
