"""HTTP: routes, health (and what else those need who run the server), schemas and openapi,
requests (bodies in: encoded, forms), jobs (what bodies ask -> jobs of an engine), streaming
(answers out), answers, middleware, access (who may ask), reference (/docs); other protocols over
the same jobs: openai, tokens, oip (KServe, Triton)."""
