"""HTTP: routes, health (and what else those need who run the server), schemas, requests (bodies in:
encoded, forms), streaming (answers out), answers, middleware, access (who may ask), reference
(/docs); other protocols over the same engines: openai, tokens."""
