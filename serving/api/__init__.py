"""HTTP: routes, health (and what else those need who run the server), schemas, requests (bodies in:
encoded, forms), streaming (answers out), together (several jobs of a client), answers, middleware,
access (who may ask), reference (/docs); other protocols over the same engines: openai, tokens, oip
(KServe, Triton)."""
