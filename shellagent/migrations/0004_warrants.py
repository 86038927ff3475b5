from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("shellagent", "0003_what_hosts_report"),
    ]

    operations = [
        migrations.AddField(
            model_name="shellsession",
            name="warrant",
            field=models.CharField(blank=True, default="", editable=False, max_length=64),
            preserve_default=False,
        ),
    ]
