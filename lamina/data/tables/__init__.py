"""Tables: reading them, finding out what each column means and what the task is, and columns as arrays."""

from lamina.data.tables.base import Column, read_table
from lamina.data.tables.schema import TableEncoder, TableSchema, check_schema, split_target

__all__ = ["Column", "TableEncoder", "TableSchema", "check_schema", "read_table", "split_target"]
