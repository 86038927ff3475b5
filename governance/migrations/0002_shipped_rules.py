from django.db import migrations

from governance.policy.matrix import SHIPPED_DIRECTORIES, SHIPPED_MATRIX


def install(apps, schema_editor):
    matrix_row = apps.get_model("governance", "MatrixRow")
    matrix_row.objects.bulk_create(
        matrix_row(category=category.value, maturity=maturity.value, outcome=outcome.value)
        for (category, maturity), outcome in SHIPPED_MATRIX.items()
    )
    directory_row = apps.get_model("governance", "DirectoryRow")
    directory_row.objects.bulk_create(
        directory_row(root=rule.root, access=rule.access.value, least_maturity=rule.least_maturity.value)
        for rule in SHIPPED_DIRECTORIES
    )
    apps.get_model("governance", "PolicyGeneration").objects.create(id=1, number=1)


class Migration(migrations.Migration):
    dependencies = [("governance", "0001_initial")]
    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
