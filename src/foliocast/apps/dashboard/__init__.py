"""The dashboard: computes nothing itself, calls the workflows."""
