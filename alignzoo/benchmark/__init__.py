"""What alignzoo costs: at the start, beside a plain TRL script, and with growing data. Timed here, never in tests."""
