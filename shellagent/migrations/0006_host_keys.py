from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('shellagent', '0005_looks'),
    ]

    operations = [
        migrations.AddField(
            model_name='host',
            name='instance_refused_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='host',
            name='previous_key_digest',
            field=models.CharField(editable=False, max_length=64, null=True, unique=True),
        ),
        migrations.AddField(
            model_name='host',
            name='previous_key_until',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='host',
            name='refused_instance_id',
            field=models.CharField(blank=True, editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name='host',
            name='wants_new_key',
            field=models.BooleanField(default=False, editable=False),
        ),
    ]
