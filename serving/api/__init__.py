"""HTTP: routes, health, schemas, requests (bodies in: encoded, forms), streaming (answers out),
middleware, access (who may ask), reference (/docs); other protocols over the same engines: openai,
tokens."""
