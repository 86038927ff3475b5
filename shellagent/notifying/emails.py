"""Sending by email, through the server that EMAIL_URL names."""

import smtplib
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage, get_connection

from shellagent.notifying.parcels import ATTEMPT_SECONDS, Delivery, Parcel


def email_send(parcel: Parcel) -> Delivery:
    """Send to the addresses of a parcel. What goes wrong is told in the answer."""
    if not settings.EMAIL_URL:
        return Delivery(is_delivered=False, detail="EMAIL_URL is not set: there is no mail server to send by.")
    host = urlsplit(settings.ATOM_PUBLIC_URL).hostname or "localhost"
    message = EmailMessage(
        subject=parcel.title,
        body=parcel.text,
        from_email=settings.DEFAULT_FROM_EMAIL,
        to=parcel.address.split(", "),
        # The same over every attempt; mail programs show a repetition once.
        headers={"Message-ID": f"<{parcel.name}@{host}>", "Auto-Submitted": "auto-generated"},
        connection=get_connection(timeout=ATTEMPT_SECONDS),
    )
    try:
        message.send()
    except smtplib.SMTPResponseException as error:
        return Delivery(is_delivered=False, detail=f"The mail server answered {error.smtp_code}.")
    except smtplib.SMTPRecipientsRefused as error:
        codes = sorted({code for code, _text in error.recipients.values()})
        return Delivery(is_delivered=False, detail=f"The mail server refused the recipients ({codes[0]}).")
    except TimeoutError:
        return Delivery(is_delivered=False, detail=f"The mail server did not answer within {ATTEMPT_SECONDS:g} s.")
    except (OSError, smtplib.SMTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return Delivery(is_delivered=False, detail=f"The mail server cannot be used: {reason}.")
    return Delivery(is_delivered=True, detail="The mail server took it.")
