"""The endpoint to try: requests as something to paste."""
