"""Objects, durable in one SQLite file and readable from memory, with versions, history and watches."""
