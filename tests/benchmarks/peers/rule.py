"""The built-in rule written by hand on a decoded event, as a user of a peer would write it.

Used by the contestants that decode JSON: stock Faust, Quix Streams, Bytewax. The standard library
only.
"""

from __future__ import annotations

import re
from typing import Any

_ENGINES = frozenset({"System.Management.Automation.dll", "System.Management.Automation.ni.dll"})
_MICROSOFT = frozenset(
    {"Microsoft Corporation", "Microsoft Dynamic Code Publisher", "Microsoft Windows"}
)
_HOSTS_OF_CODE = frozenset({"regsvr32.exe", "rundll32.exe"})
_PROGRAM_FILES = re.compile(r"c:\\program.*files.*\\.*\.exe", re.DOTALL)
_LENOVO = re.compile(r"c:\\windows\\lenovo\\.*\.exe", re.DOTALL)
_CHOCOLATEY = r"c:\programdata\chocolatey\choco.exe"
_POWERSHELL = r"c:\windows\system32\windowspowershell\v1.0\powershell.exe"


def matches(event: dict[str, Any]) -> bool:
    """Return whether the event matches; the cheapest and most selective test comes first."""
    if event["dll"]["name"] not in _ENGINES:
        return False
    if event["host"]["os"]["type"] != "windows" or "library" not in event["event"]["category"]:
        return False
    process = event["process"]
    executable = process["executable"].lower()
    if executable == _POWERSHELL:
        return False
    signature = process.get("code_signature", {})
    return not (signature.get("trusted") and _is_trusted_elsewhere(process, executable, signature))


def _is_trusted_elsewhere(
    process: dict[str, Any], executable: str, signature: dict[str, Any]
) -> bool:
    signer = signature.get("subject_name")
    if signer in _MICROSOFT and process["name"].lower() not in _HOSTS_OF_CODE:
        return True
    if _PROGRAM_FILES.fullmatch(executable):
        return True
    if signer == "Lenovo" and _LENOVO.fullmatch(executable):
        return True
    return signer == "Chocolatey Software, Inc." and executable == _CHOCOLATEY


def term(event: dict[str, Any]) -> str:
    """Return what must be new: host, program and user in one text."""
    return "\n".join((event["host"]["id"], event["process"]["executable"], event["user"]["id"]))
