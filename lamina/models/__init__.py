"""Row 6: the graph of calls, Model, Sequential, the task's head, the summary."""
