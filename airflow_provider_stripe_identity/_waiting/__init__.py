"""Waiting for people: events, and what they and the sessions of a reference say."""
