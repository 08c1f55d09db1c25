"""OpenAI's completions over our engines: schemas, completions (several texts as one answer),
errors, routes. What the engines cannot do is refused."""
