from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shellagent", "0008_interventions")]

    operations = [
        migrations.AddField(
            "host",
            "audit_mode",
            models.CharField(
                choices=[("strict", "strict"), ("best_effort", "best_effort")],
                db_default="strict",
                default="strict",
                editable=False,
                max_length=11,
            ),
        ),
    ]
