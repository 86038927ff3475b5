from django.db import migrations, models

from audit import triggers


def guard(apps, schema_editor):
    vendor = schema_editor.connection.vendor
    for statement in [*triggers.removing_statements(vendor), *triggers.statements(vendor)]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("audit", "0006_sealing")]

    operations = [
        migrations.CreateModel(
            name="AuditRetirement",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("size", models.BigIntegerField(unique=True)),
                ("note", models.TextField()),
                ("retired_at", models.DateTimeField()),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="AuditSink",
            fields=[
                ("name", models.CharField(max_length=200, primary_key=True, serialize=False)),
                ("error", models.CharField(blank=True, max_length=300)),
                ("failed_at", models.DateTimeField(null=True)),
                ("failing_since", models.DateTimeField(null=True)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.RunPython(guard, migrations.RunPython.noop, elidable=False),
    ]
