from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0003_what_events_are_about"),
    ]

    operations = [
        migrations.AlterField(
            model_name="auditpayload",
            name="kind",
            field=models.CharField(
                choices=[
                    ("request", "Request"),
                    ("decision", "Decision"),
                    ("stdout", "Stdout"),
                    ("stderr", "Stderr"),
                    ("scripts", "Scripts"),
                ],
                max_length=10,
            ),
        ),
    ]
