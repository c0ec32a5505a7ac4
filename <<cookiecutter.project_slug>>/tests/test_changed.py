"""Which tests `make quick` runs for which changed file."""

import changed


def test_a_rooms_file_stands_for_the_rooms_tests_and_a_file_beside_the_rooms_for_its_own():
    files = ["src/scarcegan/data/files.py", "src/scarcegan/serving.py", "infra/roles.yaml", "README.md"]
    assert changed.tests(files) == [
        "tests/data",
        "tests/infra",
        "tests/test_house.py",
        "tests/test_readme.py",
        "tests/test_serving.py",
    ]


def test_a_changed_test_runs_alone_unless_its_room_changed_too():
    assert changed.tests(["tests/data/test_schema.py"]) == [
        "tests/data/test_schema.py",
        "tests/test_house.py",
        "tests/test_readme.py",
    ]
    both = ["tests/data/test_schema.py", "src/scarcegan/data/schema.py"]
    assert changed.tests(both) == ["tests/data", "tests/test_house.py", "tests/test_readme.py"]


def test_a_helper_a_deleted_test_and_a_file_without_tests_stand_for_nothing_more():
    files = ["tests/helpers/house.py", "tests/data/test_gone.py", "src/scarcegan/errors.py", "LICENSE"]
    assert changed.tests(files) == ["tests/test_house.py", "tests/test_readme.py"]


def test_the_notebook_and_its_functions_have_two_test_files():
    both = ["tests/test_notebook.py", "tests/test_notebook_in_aws.py"]
    for file in ("notebooks/retrain.ipynb", "src/scarcegan/notebook.py"):
        assert changed.tests([file]) == ["tests/test_house.py", *both, "tests/test_readme.py"]
