"""Render the report as one HTML page without network, script (except the drop zone) or color coding."""
