"""HTTP: routes, health (and what else those need who run the server), schemas and openapi,
requests (bodies in: encoded, forms), texts and pictures (what bodies ask -> jobs of an engine),
together (jobs of one client), streaming (answers out), answers, middleware, access (who may ask),
reference (/docs); other protocols over the same cores: openai, tokens, oip (KServe, Triton)."""
