"""Compares methods by a protocol that is fixed beforehand: tune, pick on validation, fresh seeds, test once."""
