"""Measures what alignzoo costs: at the start, beside a plain TRL script, and with growing data."""
