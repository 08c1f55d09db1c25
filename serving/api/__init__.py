"""HTTP: routes, health, schemas, requests (bodies in; encoded: base64, forms: multipart), streaming
(answers out), timing, middleware, access (who may ask), reference (/docs); other protocols over the
same engines: openai, tokens."""
