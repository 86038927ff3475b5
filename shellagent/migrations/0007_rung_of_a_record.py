from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("shellagent", "0006_host_keys"),
    ]

    operations = [
        migrations.AddField(
            model_name="executionrecord",
            name="rung",
            field=models.CharField(blank=True, default="", max_length=5),
        ),
    ]
