"""What tests share: servers, stores, Airflow itself. Fixtures are in the conftests."""
