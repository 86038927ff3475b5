from django.db import migrations


def install(apps, schema_editor):
    rows = [("INTERN", 10, 50, "0.70"), ("SUPERVISED", 25, 20, "0.85"), ("AUTONOMOUS", 50, 0, "0.95")]
    model = apps.get_model("governance", "PromotionRow")
    model.objects.bulk_create(
        model(maturity=maturity, decided=decided, most_intervention=most, least_score=score)
        for maturity, decided, most, score in rows
    )


class Migration(migrations.Migration):
    dependencies = [("governance", "0005_earned_trust")]
    operations = [migrations.RunPython(install, migrations.RunPython.noop)]
