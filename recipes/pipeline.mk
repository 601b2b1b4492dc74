# The pipeline, which the Makefile of a recipe includes. Every target always runs: a stage that is up to date says so
# and ends at once, so no file times are compared.
#
#   NAME              folder of the recipe: recipes/$(NAME)/recipe.toml, runs/$(NAME)
#   PROBLEMS          training problems
#   BENCHMARK         evaluation problems: one or several files or names of benchmarks
#   TEACHER           model reference of the teacher
#   STUDENT           short name of the student, used in folder names
#   STUDENT_MODEL     model reference of the student
#   RECIPE            recipe file, if it is not recipe.toml
#   FILTER_FLAGS      more flags for filter
#   TEACHER_FLAGS     more flags for generate and for the eval of the teacher, such as the address of a server
#   BASE_FLAGS        more flags for the eval of the student before training, such as a chat template

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
