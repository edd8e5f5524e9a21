"""From files to arrays: pictures, tables, batches."""

from lamina.data.pictures import PictureFolder, find_pictures, load_pictures, read_pictures, write_pictures
from lamina.data.tables import Column, TableEncoder, TableSchema, check_schema, read_table, split_target

__all__ = [
    "Column",
    "PictureFolder",
    "TableEncoder",
    "TableSchema",
    "check_schema",
    "find_pictures",
    "load_pictures",
    "read_pictures",
    "read_table",
    "split_target",
    "write_pictures",
]
