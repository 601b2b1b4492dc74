"""The row plan, and the rows that a pilot draws from it."""

from pathlib import Path

from distillpipe.base.options import EngineOptions, Plan, Prompting, Sampling, SamplingOptions
from distillpipe.base.records import Problem, problem_id
from distillpipe.models.chat import Chat
from distillpipe.models.lookup import Model
from distillpipe.sampling.plan import RowPlan

TEACHER = Model("data/teacher", Path("unused"), "local:0123")


def problems(count: int) -> list[Problem]:
    texts = [f"What is {number}+1?" for number in range(count)]
    return [
        Problem(problem_id=problem_id(text, "2", "math"), problem=text, reference_answer="2", verifier="math")
        for text in texts
    ]  # fmt: skip


def options(num_samples: int = 1, seed: int = 0) -> SamplingOptions:
    return SamplingOptions(
        prompting=Prompting(
            problem_field=None, answer_field=None, verifier=None, prompt_template="{problem}",
            system_prompt=None, chat_template=None,
        ),
        plan=Plan(num_samples=num_samples, limit=None, seed=seed),
        sampling=Sampling(temperature=0.6, top_p=0.95, max_tokens=64),
        engine=EngineOptions(engine="auto", concurrency=4),
        accept_errors=False,
    )  # fmt: skip


def test_a_pilot_is_spread_over_the_problems_and_a_larger_one_holds_a_smaller_one(
    teacher_chat: Chat, tmp_path: Path
) -> None:
    plan = RowPlan(TEACHER, teacher_chat, options(num_samples=3), tmp_path)
    plan.add(iter(problems(10)))

    ten = plan.pilot_keys(10)
    assert {plan.problem_of(key).problem for key in ten} == {one.problem for one in problems(10)}
    assert plan.pilot_keys(4) == ten[:4]
    assert [plan.problem_of(key).problem for key in ten] != [one.problem for one in problems(10)]
    assert {plan.rows[key].sample for key in plan.pilot_keys(15)} == {0, 1}
    assert sorted(plan.pilot_keys(99)) == sorted(plan.rows)


def test_other_seeds_draw_other_rows_for_a_pilot(teacher_chat: Chat, tmp_path: Path) -> None:
    drawn = []
    for seed in (0, 1):
        plan = RowPlan(TEACHER, teacher_chat, options(seed=seed), tmp_path)
        plan.add(iter(problems(50)))
        drawn.append({plan.problem_of(key).problem for key in plan.pilot_keys(5)})
    assert drawn[0] != drawn[1]
