"""Apache Airflow provider for Stripe Identity."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """Tell Airflow what this provider brings (entry point ``apache_airflow_provider``)."""
    from airflow_provider_stripe_identity._connection.form import CONN_FIELDS, UI_FIELD_BEHAVIOUR

    integration = "Stripe Identity"
    return {
        # Airflow wants this to be the distribution's name.
        "package-name": "airflow-provider-stripe-identity",
        "name": "Stripe Identity",
        "description": "Export Stripe Identity VerificationSessions to object storage, and wait for verified persons.",
        "versions": [__version__],
        "integrations": [
            {
                "integration-name": integration,
                "external-doc-url": "https://docs.stripe.com/identity",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": integration, "python-modules": ["airflow_provider_stripe_identity.hooks"]}],
        "operators": [
            {
                "integration-name": integration,
                "python-modules": [
                    "airflow_provider_stripe_identity.operators.export",
                    "airflow_provider_stripe_identity.operators.warehouse",
                ],
            }
        ],
        "sensors": [{"integration-name": integration, "python-modules": ["airflow_provider_stripe_identity.sensors"]}],
        "triggers": [
            {"integration-name": integration, "python-modules": ["airflow_provider_stripe_identity.triggers"]}
        ],
        "cli": ["airflow_provider_stripe_identity.cli.get_commands"],
        "config": {
            "stripe_identity": {
                "description": "Settings of the Stripe Identity provider.",
                "options": {
                    "explorer_enabled": {
                        "description": (
                            "Show Browse -> Stripe Identity in the UI, and let those who may test a connection read "
                            "from Stripe through it."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    }
                },
            }
        },
        "extra-links": ["airflow_provider_stripe_identity.links.StripeDashboardLink"],
        "connection-types": [
            {
                "connection-type": "stripe_identity",
                "hook-class-name": "airflow_provider_stripe_identity.hooks.StripeIdentityHook",
                "hook-name": "Stripe Identity",
                "conn-fields": CONN_FIELDS,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
            }
        ],
    }
