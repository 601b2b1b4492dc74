# The pipeline, for the Makefile of a recipe to include. A stage that is up to date says so and ends at
# once, so every target is always run and no file times are compared.
#
#   NAME              the recipe's folder: recipes/$(NAME)/recipe.toml, runs/$(NAME)
#   PROBLEMS          problems to distil on
#   BENCHMARK         problems to evaluate on: one or several files or names of benchmarks
#   TEACHER           model reference
#   STUDENT           short name of the student: part of the folder names
#   STUDENT_MODEL     model reference of it
#   RECIPE            the recipe's file, if it is not recipe.toml
#   FILTER_FLAGS      what filter is told besides
#   TEACHER_FLAGS     what generate and the teacher's eval are told besides: a server's address, say
#   BASE_FLAGS        what the eval of the student before training is told besides: a chat template, say

ROOT := ../..
RUNS := runs/$(NAME)
RECIPE ?= recipe.toml
DISTILL := cd $(ROOT) && .venv/bin/distill --recipe recipes/$(NAME)/$(RECIPE)
BENCHMARK_FLAGS = $(addprefix --benchmark ,$(BENCHMARK))
SCORES := $(RUNS)/eval-teacher $(RUNS)/eval-base-$(STUDENT) $(RUNS)/eval-student-$(STUDENT)

.DEFAULT_GOAL := report
.PHONY: traces clean student eval-teacher eval-base eval-student report

traces:
	$(DISTILL) generate $(PROBLEMS) --teacher $(TEACHER) $(TEACHER_FLAGS) --out $(RUNS)/traces

clean: traces
	$(DISTILL) filter $(RUNS)/traces $(FILTER_FLAGS) --out $(RUNS)/clean

student: clean
	$(DISTILL) sft $(RUNS)/clean --student $(STUDENT_MODEL) --out $(RUNS)/student-$(STUDENT)

eval-teacher: student
	$(DISTILL) eval $(TEACHER) $(BENCHMARK_FLAGS) $(TEACHER_FLAGS) --out $(RUNS)/eval-teacher

eval-base: eval-teacher
	$(DISTILL) eval $(STUDENT_MODEL) $(BENCHMARK_FLAGS) $(BASE_FLAGS) --out $(RUNS)/eval-base-$(STUDENT)

eval-student: eval-base
	$(DISTILL) eval $(RUNS)/student-$(STUDENT) $(BENCHMARK_FLAGS) --out $(RUNS)/eval-student-$(STUDENT)

report: eval-student
	@$(DISTILL) show $(RUNS)/traces $(RUNS)/clean $(RUNS)/student-$(STUDENT) $(SCORES)
