import django.db.models.deletion
from django.db import migrations, models

from audit import triggers


def install(apps, schema_editor):
    # What is there already waits as well: the first checkpoint takes it in.
    schema_editor.execute("INSERT INTO audit_auditpending (event_id) SELECT id FROM audit_auditevent")
    for statement in triggers.sealing_statements(schema_editor.connection.vendor):
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("audit", "0005_bounds_of_days")]

    operations = [
        migrations.AddField("auditevent", "signature", models.TextField(null=True)),
        migrations.CreateModel(
            name="AuditPending",
            fields=[
                (
                    "event",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="audit.auditevent",
                    ),
                ),
                ("refusal", models.CharField(blank=True, db_default="", default="", max_length=100)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="AuditLeaf",
            fields=[
                ("index", models.BigIntegerField(primary_key=True, serialize=False)),
                (
                    "event",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="audit.auditevent",
                    ),
                ),
                ("hash", models.BinaryField(max_length=32)),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="AuditCheckpoint",
            fields=[
                ("number", models.BigIntegerField(primary_key=True, serialize=False)),
                ("size", models.BigIntegerField()),
                ("sealed_at", models.DateTimeField()),
                ("note", models.TextField()),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("previous", models.CharField(max_length=64, unique=True)),
            ],
            options={
                "default_permissions": (),
                "indexes": [models.Index(fields=["size"], name="audit_checkpoint_size")],
            },
        ),
        migrations.CreateModel(
            name="AuditAnchor",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sink", models.CharField(max_length=200)),
                ("anchored_at", models.DateTimeField()),
                (
                    "checkpoint",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="audit.auditcheckpoint",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [models.Index(fields=["sink", "-checkpoint"], name="audit_anchor_newest")],
            },
        ),
        migrations.RunPython(install, migrations.RunPython.noop, elidable=False),
    ]
