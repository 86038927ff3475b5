from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("shellagent", "0004_warrants"),
    ]

    operations = [
        migrations.AddField(
            model_name="host",
            name="has_looks",
            field=models.BooleanField(default=False, editable=False),
        ),
    ]
