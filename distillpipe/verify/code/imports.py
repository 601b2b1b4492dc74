"""Adds the imports that a program may omit, as LiveCodeBench's harness and LeetCode allow.

Only names that occur in the program are imported, to save time.
"""

import builtins
import functools
import importlib
import re

from distillpipe.verify.code.inside.livecodebench import MODULES

_NAMES = {
    "typing": "Any Callable DefaultDict Deque Dict FrozenSet Generator Generic Iterable Iterator List"
    " Mapping NamedTuple Optional Sequence Set Tuple Type TypeVar Union",
    "collections": "ChainMap Counter OrderedDict defaultdict deque namedtuple",
    "heapq": "heapify heappop heappush heappushpop heapreplace nlargest nsmallest",
    "bisect": "bisect_left bisect_right insort insort_left insort_right",
    "itertools": "accumulate chain combinations combinations_with_replacement compress count cycle"
    " dropwhile groupby islice pairwise permutations product repeat starmap takewhile tee zip_longest",
    "functools": "cache cmp_to_key lru_cache partial reduce total_ordering",
    "math": "ceil comb cos dist factorial floor gcd hypot inf isqrt lcm log log10 log2 perm pi prod"
    " radians sin sqrt tan",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits",
    "operator": "itemgetter attrgetter mul xor",
    "dataclasses": "dataclass field",
    "copy": "deepcopy",
    "decimal": "Decimal",
    "fractions": "Fraction",
    "datetime": "date timedelta",
    "io": "BytesIO StringIO",
    "random": "randint",
    "statistics": "mean median mode",
    "sys": "setrecursionlimit stdin stdout",
}
_MODULES = (
    *_NAMES, "array", "cmath", "enum", "json", "os", "re", "time",
)  # fmt: skip
_STATEMENTS = {
    name: f"from {module} import {name}"
    for module, names in _NAMES.items()
    for name in names.split()
} | {module: f"import {module}" for module in _MODULES}
PROVIDED_NAMES = frozenset(_STATEMENTS)
"Names that mean the library's object in tests too; a less common name (`add`) may be the candidate's."
_WORD = re.compile(r"[A-Za-z_]\w*")


def imports_for(source: str) -> str:
    """Import statements for the common names of the standard library that occur in `source`."""
    statements = _all_statements()
    mentioned = statements.keys() & set(_WORD.findall(source))
    return "\n".join(statements[name] for name in sorted(mentioned))


@functools.cache
def _all_statements() -> dict[str, str]:
    """The import statement of each name: those of the table, and all names of `from MODULE import *`.

    Built-in names (`pow`, `open`) stay built-in, as in LiveCodeBench's list, whose last import they are.
    """
    statements = {
        name: f"from {module} import {name}"
        for module in MODULES
        for name in _public_names(module)
        if not hasattr(builtins, name)
    }
    return statements | _STATEMENTS


def _public_names(module: str) -> list[str]:
    """The names that `from MODULE import *` imports."""
    loaded = importlib.import_module(module)
    return list(
        getattr(loaded, "__all__", [name for name in vars(loaded) if not name.startswith("_")])
    )
