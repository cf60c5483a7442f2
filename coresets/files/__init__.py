"""Tables in CSV, NPZ and Parquet files: read block by block, and written whole or not at all."""

from coresets.files.tables import Kept, Selection, Table, open_table
from coresets.files.writing import write_rows

__all__ = ["Kept", "Selection", "Table", "open_table", "write_rows"]
