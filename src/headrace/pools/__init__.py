"""Pool: a place where jobs can run. What it holds, what is free in it, which nodes are its own, what it costs."""
