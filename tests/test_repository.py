"""What the repository says to the places that host it: workflows, templates, the policy on security."""

import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))

pytestmark = pytest.mark.skipif(not GITHUB.exists(), reason="this copy is not a clone of the repository")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_of_a_workflow_is_pinned_to_a_commit(path):
    used = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    assert used
    for action, comment in used:
        if action.startswith("$/"):
            assert (ROOT / action[2:]).exists()
        else:
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action} lacks its version"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_workflow_starts_without_permissions(path):
    assert re.search(r"^permissions: \{\}$", path.read_text(encoding="utf-8"), re.MULTILINE)


def test_one_action_has_one_commit_in_all_workflows():
    commits: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for action, commit in re.findall(r"uses: ([^@\s]+)@(\w+)", path.read_text(encoding="utf-8")):
            commits.setdefault(action, set()).add(commit)
    assert {action: found for action, found in commits.items() if len(found) > 1} == {}


def test_a_release_has_absolute_links_and_the_addresses_of_the_project(tmp_path):
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, ROOT / ".ci" / "addresses", "https://host.example/owner/name/", "v1.2.3"]
    subprocess.run(command, cwd=tmp_path, check=True)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((?!https://)", text) == []
    for way, path in re.findall(r"https://host\.example/owner/name/(\w+)/v1\.2\.3/([^)]+)\)", text):
        assert way == ("raw" if path.endswith(".svg") else "blob") and (ROOT / path).exists(), path
    before = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("](https://host.example/") == len(re.findall(r"\]\((?!https?://)", before)) > 5
    urls = tomllib.loads((tmp_path / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert urls["Homepage"] == "https://host.example/owner/name" and urls["Issues"] == f"{urls['Homepage']}/issues"
    again = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert again.returncode == 1 and "has addresses already" in again.stderr
