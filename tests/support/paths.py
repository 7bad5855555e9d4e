"""Where things are in the checkout, and beside it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "dags_examples"
#: Stripe's own description of its API. Tests that need it are skipped where it is absent.
STRIPE_SPECIFICATION = ROOT.parent / "shared" / "stripe" / "identity-openapi.json"
STRIPE_FIXTURES = ROOT.parent / "shared" / "stripe" / "identity-fixtures.json"
