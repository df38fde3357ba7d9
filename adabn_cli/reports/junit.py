"""Gates as JUnit XML: a test case a gate. Knows no file."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from adabn_cli.record import GatePart, Record
from adabn_cli.reports.words.subject import intake_facts, skipped_told
from adabn_cli.reports.words.wording import gate_told, warned
from adabn_cli.text import one_line

_NO_GATE = "no gate was asked for"


def render(record: Record) -> str:
    """One suite: a failed gate is a failure, one that cannot be told an error.

    A gate that only warns is a passed case, whose output says how it stands.
    Without gates there is one skipped case: some pipelines take an empty suite for a broken one,
    and a passed case would claim that something was checked.
    """
    statuses = [_status(gate) for gate in record.gates]
    counts = {
        "tests": len(statuses) or 1,
        "failures": statuses.count("failed"),
        "errors": statuses.count("cannot tell"),
        "skipped": 0 if statuses else 1,
    }
    numbers = {name: str(n) for name, n in counts.items()}
    seconds = record.run.seconds
    told = {"name": "adabn", **numbers, "time": _time(seconds)}
    root = Element("testsuites", told)
    suite = SubElement(root, "testsuite", told)
    share = seconds / (len(statuses) or 1)  # One run serves all gates: their times add up to its.
    _add_properties(suite, record)
    for gate in record.gates:
        _add_case(suite, gate, share)
    if not statuses:
        skipped = SubElement(_case(suite, _NO_GATE, share), "skipped")
        skipped.set("message", "Ask for one: adabn report --fail-on 'accuracy_drop>0.5pp'.")
    _add_output(suite, record)
    indent(root)
    return "<?xml version='1.0' encoding='utf-8'?>\n" + tostring(root, encoding="unicode") + "\n"


def _add_properties(suite: Element, record: Record) -> None:
    """What was held against the gates, for whoever reads the XML alone."""
    properties = SubElement(suite, "properties")
    for name, text in (
        ("model", record.model.path or "live module"),
        ("target", record.target.path or record.target.kind),
        ("images", str(record.target.images)),
        *((name.lower(), text) for name, text in intake_facts(record.target) if text),
        ("verdict", record.verdict.sentence),
    ):
        SubElement(properties, "property", {"name": name, "value": one_line(text)})


def _add_output(suite: Element, record: Record) -> None:
    """What was noticed and warned of, a line each: all that other renderings tell."""
    lines = [f"{notice.kind}: {notice.sentence}" for notice in record.notices]
    lines += [f"warning: {text}" for text in warned(record)]
    lines += [f"warning: {text}" for text in [skipped_told(record.target)] if text]
    if lines:
        SubElement(suite, "system-out").text = "\n".join(map(one_line, lines))


def _status(gate: GatePart) -> str:
    return gate.status if gate.level == "fail" else "passed"


def _add_case(suite: Element, gate: GatePart, seconds: float) -> None:
    case = _case(suite, gate.expression, seconds)
    told = f"{gate.expression} {gate_told(gate)}"
    if _status(gate) == "failed":
        SubElement(case, "failure", {"type": "gate failed", "message": one_line(told)})
    elif _status(gate) == "cannot tell":
        SubElement(case, "error", {"type": "gate cannot be told", "message": one_line(told)})
    else:
        SubElement(case, "system-out").text = one_line(told)


def _time(seconds: float) -> str:
    return f"{seconds:.3f}"


def _case(suite: Element, name: str, seconds: float) -> Element:
    """A case whose name is the same in every run, so that a pipeline can follow it."""
    told = {"classname": "adabn.gates", "name": one_line(name), "time": _time(seconds)}
    return SubElement(suite, "testcase", told)
