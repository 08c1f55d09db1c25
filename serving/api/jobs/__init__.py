"""What a request asks -> jobs of an engine, one core for each task, whatever API was asked: texts,
pictures; together (several jobs that one client waits for)."""
