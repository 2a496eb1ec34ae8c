"""What a run or a sweep looks like: tables, plots, pages."""
