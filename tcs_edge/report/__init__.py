"""Format results as text, tables, pages and charts; nothing here computes a result."""
