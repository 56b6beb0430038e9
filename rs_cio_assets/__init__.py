"""Redshift export views to Customer.io feeds, as Dagster assets by day."""
