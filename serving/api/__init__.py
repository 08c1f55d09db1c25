"""HTTP: routes, health, schemas, requests (bodies in), streaming (answers out), middleware; other
protocols over the same engines: openai, tokens."""
