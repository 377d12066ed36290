"""Rules by the hundred, in the likeness of the 241 new_terms rules that Elastic publishes.

    python -m tests.benchmarks.rules DIRECTORY [--count 240] [--seed 1] [--indices every|mixed]

How often a query has a value list, a negation, a pattern, an exists clause and so on, how many
values stand in a list, how many fields make a term and how long the history is: all drawn from the
counts of those rules. The queries themselves are made up.

With `mixed` indices a rule reads the data streams that its like reads, so that about one in ten
applies to library events. With `every` all of them do: the worst case, and the one that is judged.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Weights are numbers of rules out of 241, or close to them.
_KINDS = {"cloud": 116, "linux": 49, "windows": 49, "network": 12, "library": 15}
_FIELD_COUNTS = {1: 95, 2: 106, 3: 40}
_HISTORIES = {"7d": 101, "5d": 87, "10d": 35, "14d": 11, "15d": 2, "30d": 1, "20d": 1, "3d": 1}
_SEVERITIES = {"low": 63, "medium": 120, "high": 34}
_NOT, _PATTERN, _EXISTS, _LIST = 130 / 241, 117 / 241, 82 / 241, 185 / 241
_NUMBER, _BOOLEAN, _NETWORKS, _CASELESS = 31 / 241, 20 / 241, 9 / 241, 7 / 241

_INDICES = {
    "cloud": ["filebeat-*", "logs-aws.cloudtrail-*"],
    "linux": ["logs-endpoint.events.process*", "auditbeat-*"],
    "windows": ["logs-endpoint.events.process-*", "winlogbeat-*"],
    "network": ["logs-endpoint.events.network-*", "packetbeat-*"],
    "library": ["logs-endpoint.events.*"],
}
_TERMS = {
    "cloud": ("cloud.account.id", "user.name", "source.as.number", "user_agent.original"),
    "linux": ("host.id", "process.executable", "process.parent.executable", "user.id"),
    "windows": ("host.id", "process.executable", "user.id", "process.parent.executable"),
    "network": ("host.id", "process.executable", "destination.ip", "source.ip"),
    "library": ("host.id", "dll.name", "process.executable", "user.id"),
}
_PROVIDERS = ("ec2", "iam", "s3", "sts", "kms", "lambda", "rds", "ssm", "secretsmanager")
_VERBS = ("Create", "Delete", "Update", "Put", "Get", "List", "Describe", "Attach", "Modify")
_NOUNS = ("Role", "Policy", "Snapshot", "Bucket", "Key", "Secret", "Function", "Image", "Trail")
_TOOLS = (
    *("cmd.exe", "powershell.exe", "mshta.exe", "wscript.exe", "cscript.exe", "certutil.exe"),
    *("bitsadmin.exe", "msbuild.exe", "installutil.exe", "regasm.exe", "schtasks.exe", "netsh.exe"),
)
_SHELLS = (
    "bash",
    "dash",
    "busybox",
    "python3",
    "perl5",
    "openssl",
    "socat",
    "crontab",
    "systemctl",
)
_FOLDERS = (r"C\:\\Users\\*", r"C\:\\ProgramData\\*", r"*\\AppData\\Local\\*", r"D\:\\Apps\\*")
_PATHS = ("/usr/lib/*", "/opt/*/bin/*", "*/node_modules/*", "/var/lib/docker/*", "/snap/*")


def _pick(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


@dataclass(frozen=True)
class _Writer:
    """Writes one query."""

    rng: random.Random
    number: int

    def _chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _values(self, make: Callable[[], str], mean: int = 10) -> str:
        """One value, or a list of about as many as the rules have."""
        if not self._chance(_LIST):
            return make()
        count = max(2, round(self.rng.expovariate(1 / mean)))
        return "(" + " or ".join(dict.fromkeys(make() for _ in range(count))) + ")"

    def _quoted(self, choices: Sequence[str]) -> Callable[[], str]:
        return lambda: json.dumps(self.rng.choice(choices))

    def _action(self) -> str:
        return f'"{self.rng.choice(_VERBS)}{self.rng.choice(_NOUNS)}{self.number}"'

    def query(self, kind: str) -> str:
        clauses: list[str] = getattr(self, f"_{kind}")()
        if self._chance(_EXISTS):
            clauses.append(f"{_TERMS[kind][0]}:*")
        if self._chance(_NUMBER):
            clauses.append(f"not process.pid:{self.rng.randrange(1, 9)}")
        if self._chance(_BOOLEAN):
            clauses.append("not process.code_signature.trusted:true")
        if self._chance(_NETWORKS):
            clauses.append('not source.ip:("10.0.0.0/8" or "172.16.0.0/12" or "192.168.0.0/16")')
        if self._chance(_CASELESS):
            clauses.append('not process.name.caseless:("explorer.exe" or "msedge.exe")')
        return " and\n  ".join(clauses)

    def _cloud(self) -> list[str]:
        provider = self.rng.choice(_PROVIDERS)
        clauses = [
            'event.dataset:"aws.cloudtrail"',
            f'event.provider:"{provider}.amazonaws.com"',
            f"event.action:{self._values(self._action, 6)}",
            "event.outcome:success",
        ]
        if self._chance(_NOT):
            clauses.append('not user_agent.original:("aws-internal" or *Terraform* or *Boto3*)')
        return clauses

    def _linux(self) -> list[str]:
        clauses = [
            "host.os.type:linux",
            "event.category:process",
            "event.type:start",
            f"process.name:{self._values(self._quoted(_SHELLS))}",
        ]
        if self._chance(_NOT):
            clauses.append(
                f"not process.parent.executable:{self._values(lambda: self.rng.choice(_PATHS))}"
            )
        return clauses

    def _windows(self) -> list[str]:
        clauses = [
            "host.os.type:windows",
            "event.category:process",
            "event.type:start",
            f"process.name:{self._values(self._quoted(_TOOLS))}",
        ]
        if self._chance(_NOT):
            clauses.append(
                f"not process.parent.executable:{self._values(lambda: self.rng.choice(_FOLDERS))}"
            )
        return clauses

    def _network(self) -> list[str]:
        return [
            "host.os.type:windows",
            "event.category:network",
            f"process.name:{self._values(self._quoted(_TOOLS))}",
            'not destination.ip:("10.0.0.0/8" or "127.0.0.0/8" or "192.168.0.0/16")',
        ]

    def _library(self) -> list[str]:
        names = [f"Contoso.Module{self.number}.{n}.dll" for n in range(12)]
        clauses = [
            "host.os.type:windows",
            "event.category:library",
            f"dll.name:{self._values(self._quoted(names), 4)}",
        ]
        if self._chance(_NOT):
            clauses.append(
                "not (process.code_signature.subject_name:"
                '("Microsoft Corporation" or "Microsoft Windows") and '
                "process.code_signature.trusted:true)"
            )
        if self._chance(_PATTERN):
            clauses.append(f"not dll.path:{self._values(lambda: self.rng.choice(_FOLDERS))}")
        return clauses


def rule_text(number: int, *, seed: int = 1, indices: str = "every") -> str:
    """Return the rule file of one generated rule.

    Args:
        number: which rule; the same number and seed give the same text.
        seed: of everything random.
        indices: "every": the rule reads every data stream; "mixed": those of its kind.
    """
    rng = random.Random(f"rule {seed} {number}")
    kind = _pick(rng, _KINDS)
    query = _Writer(rng, number).query(kind)
    fields = _TERMS[kind][: int(_pick(rng, {str(n): w for n, w in _FIELD_COUNTS.items()}))]
    patterns = ["logs-*"] if indices == "every" else _INDICES[kind]
    return f"""[rule]
author = ["firstseen benchmarks"]
description = "Generated rule {number}, of the kind {kind}."
from = "now-9m"
index = {json.dumps(patterns)}
language = "kuery"
license = "Apache-2.0"
name = "Generated {number}"
risk_score = 21
rule_id = "generated-{seed}-{number}"
severity = "{_pick(rng, _SEVERITIES)}"
timestamp_override = "event.ingested"
type = "new_terms"
query = '''
{query}
'''

[rule.new_terms]
field = "new_terms_fields"
value = {json.dumps(list(fields))}

[[rule.new_terms.history_window_start]]
field = "history_window_start"
value = "now-{_pick(rng, _HISTORIES)}"
"""


def write_rules(directory: Path, count: int, *, seed: int = 1, indices: str = "every") -> Path:
    """Write so many rule files into a new folder, and return it."""
    directory.mkdir(parents=True)
    for number in range(count):
        path = directory / f"generated_{number:03}.toml"
        path.write_text(rule_text(number, seed=seed, indices=indices))
    return directory


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.rules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("directory", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--indices", choices=("every", "mixed"), default="every")
    arguments = parser.parse_args()
    write_rules(
        arguments.directory, arguments.count, seed=arguments.seed, indices=arguments.indices
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
