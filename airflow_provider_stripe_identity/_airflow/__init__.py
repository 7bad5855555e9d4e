"""What differs between Airflow versions, and what an error does to a task."""
