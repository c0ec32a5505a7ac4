"""A baked project's own lint, types and tests, in a file of their own: another worker runs all others meanwhile."""

from conftest import Bake, make


def test_the_projects_own_lint_types_and_tests_pass(bake: Bake) -> None:
    said = make(bake(project_name="Checked Players"), "check")
    assert " passed" in said
    assert "failed" not in said
