"""HTTP: routes, health, schemas, requests (bodies in), streaming (answers out), middleware."""
