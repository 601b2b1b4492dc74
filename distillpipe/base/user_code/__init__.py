"""Verifiers and rules written by users: functions in their own Python files, called in separate processes.

**A verifier** judges a response. Its parameters are any of these names:

    def check(response, answer, reference_answer, problem, extra):
        return answer == reference_answer

    response          str           the text after the reasoning
    answer            str or None   the content of its last box; with --answer-form any, also an answer that is stated
    reference_answer  str or None   the reference answer of the problem
    problem           str           the text of the problem
    extra             dict          the problem's other keys; {} if there are none

It returns True or False; or "correct", "wrong" or "unverifiable"; or one of these with a reason: `(False, "no
JSON")`. "unverifiable" means that the verifier cannot judge the problem, never that the answer is poor. A truncated
completion is wrong, and the function is not called.

**A rule** of `filter` gets a trace (`distillpipe.base.records.Trace`) and returns a reason to drop it:

    def rule(trace):
        return "too_short" if len(trace.response) < 40 else None

It returns None to keep the trace. Otherwise it returns the reason, or the reason and a measured value:
`("too_short", len(trace.response))`. A reason has letters, digits and underscores, and must not be one of ours. Rules
run before the verdict, so the trace has no verdict yet.

**Names.** Rows, and the ids of their problems, store `FILE:FUNCTION`, where the file has no folder and no `.py`:
`checks:check` for `mine/checks.py:check`. So a file that moves keeps its name.

**Fingerprint.** The fingerprint of a version includes the hash of the file, and of the modules in the file's folder
that it imports, directly or indirectly. It does not include other files that the function reads. Use --fresh after a
change of such a file.

**Calls.** A process imports the file once. Each call runs in a fork of that process, so a change that a call makes (to
a global, the working directory, the environment) does not affect other calls. A call may use 5 s of CPU time, 20 s in
total, and 2 GB of memory. Its printed output is discarded. If it raises, crashes, exceeds a limit, or returns another
type, the row gets an internal error, as for a bug of ours. There is no sandbox, because this is your own code: it has
all your permissions.
"""
