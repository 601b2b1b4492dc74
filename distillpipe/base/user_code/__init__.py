"""Verifiers and rules that users write: functions of a Python file of theirs, called in processes of their own.

A verifier judges a response. It names what it wants to know as parameters, any of these:

    def check(response, answer, reference_answer, problem, extra):
        return answer == reference_answer

    response          str           the text after the reasoning
    answer            str or None   what stands in its last box; with --answer-form any, a stated answer too
    reference_answer  str or None   of the problem
    problem           str           its text
    extra             dict          the problem's other keys, {} for none

It returns True or False; or "correct", "wrong" or "unverifiable"; or one of these with a reason: `(False, "no
JSON")`. "unverifiable" is for a problem that the verifier cannot judge, never for a poor answer. A completion that was cut off
is wrong; the function is not asked.

A rule of `filter` looks at a trace (`distillpipe.base.records.Trace`) and says why it is to be dropped:

    def rule(trace):
        return "too_short" if len(trace.response) < 40 else None

It returns None for a trace to keep; else the reason, of letters, digits and underscores, which none of ours may
be; or the reason and a measured value: `("too_short", len(trace.response))`. Rules run before the verdict, and
see a trace without one.

**Names.** The rows, and the ids of their problems, hold `FILE:FUNCTION`, the file without folder and `.py`:
`checks:check` for `mine/checks.py:check`. A file that moves keeps its name.

**Fingerprint.** A version that a function decided on holds the hash of its file in its fingerprint, together with those of the
modules beside the file that it imports, directly or through one another. What else it reads is not in there: use
--fresh after a change of that.

**Calls.** A process imports the file once. Each call is made in a fork of that process, so nothing that a call changes (a
global, the working directory, the environment) reaches another one. A call may take 5 s of CPU time, 20 s in
all, and 2 GB of memory. What it prints is thrown away. Where it raises, crashes, runs out of time or memory, or returns
something else, the row meets an internal error, as it would by an error of ours. This is your own code, so there
is no sandbox: it may do whatever you may.
"""
