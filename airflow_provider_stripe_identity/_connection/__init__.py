"""The Airflow connection: its form, the HTTP client that it describes, and its test."""
