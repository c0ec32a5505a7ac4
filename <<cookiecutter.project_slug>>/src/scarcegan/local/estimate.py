"""Estimates of how long a run will take, from earlier runs of the pipeline; without them roughly, from Step.seconds."""

from scarcegan.local.events import Expected
from scarcegan.local.plan import RunPlan
from scarcegan.local.state import FINISHED, RunsFolder, find_run, run_ids
from scarcegan.pipeline.definition import Gate, Step

MEGABYTE = 1_000_000
NEWEST_RUNS = 50  # that are looked at


def expected_seconds(plan: RunPlan, runs_folder: RunsFolder) -> dict[str, Expected]:
    """Return name of a step -> how long its process will probably take; a step of which nothing is known is not in it.

    It is the time of the newest run of the pipeline that finished the step, times how much larger the sources are now.
    That of a training is taken as it is, because its length depends on its settings more than on the data. If no run
    has finished the step, it is the rough guess in Step.seconds.
    """
    found: dict[str, Expected] = {}
    steps = [step for step in plan.pipeline.steps if isinstance(step, Step)]
    size = sum(source.size for source in plan.fingerprints.values())
    for run in run_ids(runs_folder.root)[: -NEWEST_RUNS - 1 : -1]:
        about = find_run(runs_folder.root, run)
        if about is None or about["pipeline"] != plan.pipeline.name:
            continue
        before = sum(source.get("bytes", 0) for source in about["sources"].values())
        for step in steps:
            state = runs_folder.read_state(run, step.name)
            if step.name not in found and state.status == FINISHED and state.seconds:
                grown = size / before if before and step.kind == "processing" else 1.0
                found[step.name] = Expected(state.seconds * grown)
        if len(found) == len(steps):
            break
    guessed = {step.name: step.seconds[0] + step.seconds[1] * size / MEGABYTE for step in steps}
    return {name: Expected(seconds, rough=True) for name, seconds in guessed.items() if seconds} | found


def remaining_seconds(
    plan: RunPlan, runs_folder: RunsFolder, expected: dict[str, Expected], workers: int
) -> Expected | None:
    """Return the expected time of a run of this plan, from its start: the longest chain of steps, or the sum of all
    steps divided by the workers, whichever is longer.

    A cached step takes no time. The result is rough when the time of a step that runs is rough. None when the time of
    such a step is not known.

    - expected: from `expected_seconds`.
    - workers: how many steps may run at once.
    """
    digests = {name: source.digest for name, source in plan.fingerprints.items()}
    end: dict[str, float] = {}
    total, rough = 0.0, False
    for step in plan.pipeline.steps:
        end[step.name] = max((end[parent] for parent in plan.pipeline.parents(step)), default=0.0)
        if isinstance(step, Gate):
            continue
        read = [origin for origin in step.inputs.values() if "." in origin]
        cached = step.name not in plan.forced and set(read) <= digests.keys()
        manifest = runs_folder.cache.find(plan.key(step, digests)) if cached else None
        if manifest:
            digests |= {f"{step.name}.{output}": manifest.digest(output) for output in step.outputs}
        elif step.name in expected:
            end[step.name] += expected[step.name].seconds
            total += expected[step.name].seconds
            rough |= expected[step.name].rough
        else:
            return None
    return Expected(max([total / workers, *end.values()]), rough)
