"""Files as they come: downloaded, looked through, read once; usable rows, and the quarantine."""
