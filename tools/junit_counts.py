"""Prints the counts of a JUnit report, `passed failed skipped` in one line, then the name of each failing test.

ctest and pytest both write such reports. A test that did not run counts as failed, one that was skipped does not.
"""

import sys
import xml.etree.ElementTree as ElementTree


def main(path: str) -> None:
    passed, skipped, failing = 0, 0, []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = case.get("name", "")
        if case.get("classname") not in (None, "", name):  # ctest writes the same twice
            name = f"{case.get('classname')}.{name}"
        status = case.get("status", "")  # ctest: run, fail, notrun, disabled
        if case.find("failure") is not None or case.find("error") is not None or status == "fail":
            failing.append(name)
        elif status == "disabled" or (case.find("skipped") is not None and _was_skipped(case)):
            skipped += 1
        elif status == "notrun":
            failing.append(name)
        else:
            passed += 1
    print(passed, len(failing), skipped)
    for name in failing:
        print(name)


def _was_skipped(case: ElementTree.Element) -> bool:
    """ctest marks what it could not start as skipped too; only tests that chose to skip themselves say so."""
    if case.get("status") != "notrun":
        return True
    skipped = case.find("skipped")
    message = "" if skipped is None else skipped.get("message", "")
    return "SKIP_" in message or "Skip" in message


if __name__ == "__main__":
    main(sys.argv[1])
