from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("audit", "0008_verdict")]

    operations = [
        migrations.CreateModel(
            name="AuditLoss",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("tag", models.CharField(max_length=40)),
                ("host_id", models.BigIntegerField(null=True)),
                ("session_id", models.UUIDField(null=True)),
                ("session_seq", models.PositiveIntegerField(null=True)),
                ("lost_at", models.DateTimeField()),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="AuditWatch",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("looked_at", models.DateTimeField()),
            ],
            options={"default_permissions": ()},
        ),
    ]
