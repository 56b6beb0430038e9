"""Settings: one reader of the environment, every problem at once, nothing secret in a message."""

from __future__ import annotations

import pytest

from rs_cio_assets.errors import SettingsError
from rs_cio_assets.settings import SANDBOX_DEFAULTS, VARIABLES, load_settings

PRODUCTION = {
    "RS_CIO_MODE": "production",
    "RS_CIO_STORE": "s3://bucket/prefix",
    "RS_CIO_START_DATE": "2026-01-01",
    "REDSHIFT_HOST": "cluster.example.com",
    "REDSHIFT_DATABASE": "shop",
    "REDSHIFT_USER": "cio_sync",
    "REDSHIFT_PASSWORD": "hush-hush",
    "CUSTOMERIO_SITE_ID": "site",
    "CUSTOMERIO_API_KEY": "very-secret",
    "CUSTOMERIO_REGION": "eu",
}


def test_an_empty_environment_is_the_sandbox():
    """With nothing set, everything points at the stand-ins on 127.0.0.1."""
    settings = load_settings({})
    assert settings.mode == "sandbox"
    assert settings.redshift.host == "127.0.0.1"
    assert settings.customerio.track_url.startswith("http://127.0.0.1:")


def test_production_takes_nothing_from_the_sandbox():
    """In production no value is a sandbox default, TLS is on and the URLs follow the region."""
    settings = load_settings(PRODUCTION)
    assert settings.redshift.tls is True
    assert settings.redshift.port == 5439
    assert settings.customerio.track_url == "https://track-eu.customer.io"
    assert settings.customerio.app_url == "https://api-eu.customer.io"
    assert settings.customerio.max_requests_per_s == 10
    shown = settings.model_dump_json()
    for value in set(SANDBOX_DEFAULTS.values()) - {"shop", "cio_sync", "us", "false", "true", "100", "1", "driver"}:
        assert value not in shown


@pytest.mark.parametrize("name", sorted(set(PRODUCTION) - {"RS_CIO_MODE"}))
def test_each_missing_variable_is_named(name: str):
    """Whatever production needs and does not get is named in the error."""
    with pytest.raises(SettingsError, match=name):
        load_settings({k: v for k, v in PRODUCTION.items() if k != name})


def test_an_empty_production_environment_lists_everything_at_once():
    """One run tells all variables that production needs."""
    with pytest.raises(SettingsError) as error:
        load_settings({"RS_CIO_MODE": "production"})
    for name in set(PRODUCTION) - {"RS_CIO_MODE"}:
        assert name in str(error.value)


def test_wrong_values_are_named_without_being_shown():
    """A mistyped value is named by its variable; the value itself, which may be a secret, is not repeated."""
    wrong = {**PRODUCTION, "REDSHIFT_PORT": "hush-hush-port", "REDSHIFT_TLS": "perhaps", "CUSTOMERIO_REGION": "mars"}
    with pytest.raises(SettingsError) as error:
        load_settings(wrong)
    text = str(error.value)
    assert all(name in text for name in ("REDSHIFT_PORT", "REDSHIFT_TLS", "CUSTOMERIO_REGION"))
    assert "hush" not in text
    assert "perhaps" not in text


def test_secrets_cannot_be_printed():
    """Printing the settings shows no password and no key."""
    addresses = {f"RS_CIO_ALERT_{name}_URL": f"https://example.com/{name}-secret" for name in ("SLACK", "WEBHOOK")}
    settings = load_settings({**PRODUCTION, **addresses, "CUSTOMERIO_APP_API_KEY": "app-secret"})
    shown = f"{settings!r} {settings} {settings.model_dump_json()}"
    for secret in ("hush-hush", "very-secret", "app-secret", "SLACK-secret", "WEBHOOK-secret"):
        assert secret not in shown


@pytest.mark.parametrize("name", ["RS_CIO_ALERT_SLACK_URL", "RS_CIO_ALERT_WEBHOOK_URL", "RS_CIO_UI_URL"])
def test_an_address_that_is_none_is_named_at_once_and_not_shown(name: str):
    """Found when the definitions load, not at the first alert."""
    with pytest.raises(SettingsError, match=name) as error:
        load_settings({**PRODUCTION, name: "hooks.example.com/T000/hush"})
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"REDSHIFT_AUTH": "secret"}, "REDSHIFT_SECRET_ID"),
        ({"REDSHIFT_AUTH": "iam"}, "REDSHIFT_CLUSTER"),
        ({"REDSHIFT_AUTH": "kerberos"}, "REDSHIFT_AUTH"),
        ({"RS_CIO_MODE": "staging"}, "RS_CIO_MODE"),
    ],
)
def test_each_way_to_authenticate_says_what_it_needs(given: dict[str, str], named: str):
    """An incomplete or unknown choice names the variable to set."""
    with pytest.raises(SettingsError, match=named):
        load_settings({**PRODUCTION, **given})


@pytest.mark.parametrize(
    ("name", "value"), [("RS_CIO_STAGED_DAYS", "3"), ("RS_CIO_STAGED_DAYS", "a week"), ("RS_CIO_REJECTIONS_DAYS", "0")]
)
def test_rows_are_not_kept_for_less_than_they_are_needed(name: str, value: str):
    """Held events come due after 72 hours: staged rows that went before would never be sent."""
    with pytest.raises(SettingsError, match=name):
        load_settings({name: value})


def test_every_variable_is_in_the_readme():
    """A variable that the README does not name does not exist for its readers."""
    from pathlib import Path  # noqa: PLC0415

    readme = (Path(__file__).parents[2] / "README.md").read_text()
    missing = [name for name in VARIABLES if f"`{name}`" not in readme]
    assert missing == []
