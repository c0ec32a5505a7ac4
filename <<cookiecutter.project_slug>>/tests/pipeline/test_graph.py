"""Pictures of a pipeline."""

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from scarcegan.pipeline import graph
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import monitoring, scoring, training
from toy_runs import gated, line, pipeline, step

DIAMOND = pipeline(
    step("start", "source"), step("left", "start.out"), step("right", "start.out"), step("end", "left.out right.out")
)


def test_steps_that_may_run_side_by_side_have_the_same_number():
    assert graph.levels(DIAMOND) == {"start": 0, "left": 1, "right": 1, "end": 2}
    assert re.findall(r"^ +(\d) +(\w+)", graph.draw_text(DIAMOND), re.M) == [
        ("1", "start"),
        ("2", "left"),
        ("2", "right"),
        ("3", "end"),
    ]


def test_the_text_says_what_is_read_and_what_the_gate_asks():
    text = graph.draw_text(gated(True))
    assert "continues when passed of judge.out is true" in text
    assert "<- after gate" in text


def test_mermaid_has_every_step_and_arrow_once_and_none_of_its_own_words_as_names():
    assert graph.draw_mermaid(line("end")).splitlines() == [
        "flowchart TD",
        '  n_source_source[/"source"/]',
        '  n_end("end")',
        "  n_source_source --> n_end",
    ]
    assert '{"gate"}' in graph.draw_mermaid(gated(True))


@pytest.mark.parametrize("build", [training, scoring, monitoring])
def test_the_picture_is_well_formed_and_shows_every_name(build):
    pipeline = build(Config())
    root = ElementTree.fromstring(graph.draw_svg(pipeline))
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert words >= {step.name for step in pipeline.steps} | set(pipeline.sources)
    arrows = root.findall(".//{http://www.w3.org/2000/svg}path[@class='arrow']")
    assert len(arrows) == len(graph.arrows(pipeline))


@pytest.mark.parametrize("build", [training, scoring, monitoring])
def test_no_box_lies_on_another(build):
    root = ElementTree.fromstring(graph.draw_svg(build(Config())))
    boxes = [
        tuple(float(box.get(name)) for name in ("x", "y", "width", "height"))
        for box in root.iter("{http://www.w3.org/2000/svg}rect")
        if box.get("class") in ("box", "source")
    ]
    for (x, y, w, h), (x2, y2, w2, h2) in combinations(boxes, 2):
        assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_names_are_escaped():
    ElementTree.fromstring(graph.draw_svg(line("a<b>&'\"")))


def test_the_same_pipeline_gives_the_same_picture():
    assert graph.draw_svg(DIAMOND) == graph.draw_svg(DIAMOND)
