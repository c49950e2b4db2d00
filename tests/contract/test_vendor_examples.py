"""Scripts as the vendor's page shows them, run unchanged but for address, key and target. Written from the contract."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pytest_bbre.engine import Engine

LIMIT = 60  # seconds until a script is given up
no_shell = sys.platform == "win32" or not all(map(shutil.which, ("bash", "curl", "jq")))  # bash there may be WSL's
shell = pytest.mark.skipif(no_shell, reason="needs bash, curl and jq")


@pytest.fixture
def running() -> Iterator[Engine]:
    """An engine of the test's own, in a process of its own."""
    with Engine() as engine:
        yield engine


def run(engine: Engine, command: list[str], target: str = "", session: str = "") -> str:
    """Runs a script with all it needs in its environment; it has to succeed."""
    given = {"BASE_URL": engine.base_url, "API_KEY": str(engine.api_key), "TARGET": target, "SESSION_ID": session}
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env={**os.environ, **given})
    assert done.returncode == 0, done.stderr
    return done.stdout


def python(engine: Engine, script: str, **options: str) -> str:
    return run(engine, [sys.executable, "-c", HEAD + script], **options)


def bash(engine: Engine, script: str, **options: str) -> str:
    return run(engine, ["bash", "-euo", "pipefail", "-c", script], **options)


HEAD = """
import os, time, requests
API_KEY, BASE_URL, TARGET = os.environ["API_KEY"], os.environ["BASE_URL"], os.environ["TARGET"]
HEADERS = {"Content-Type": "application/json", "x-api-key": API_KEY}

def create_session():
    create_response = requests.post(
        f"{BASE_URL}/session/create",
        headers=HEADERS,
        json={"mode": "passive", "sensibility": "medium", "timeout": 300},
    )
    return create_response.json()["session"]["id"]
"""

SIMPLE_CLOSE = """
session_id = create_session()
response = requests.post(f"{BASE_URL}/session/close", headers=HEADERS, json={"sessionId": session_id})
data = response.json()
if data["success"]:
    print(f"Session {data['data']['session']['id']} is {data['data']['session']['status']}")
else:
    print(f"Error: {data['error']['code']}: {data['error']['message']}")
"""

SAFE_CLOSE = """
def close_session_safely(session_id, max_retries=3):
    for attempt in range(max_retries):
        response = requests.post(f"{BASE_URL}/session/close", headers=HEADERS, json={"sessionId": session_id})
        data = response.json()
        if data["success"]:
            return "closed"
        code = data["error"]["code"]
        if code in ("SESSION_CLOSED", "SESSION_NOT_FOUND"):
            return code
        if code == "SERVICE_ERROR" and attempt < max_retries - 1:
            time.sleep(0.01)
            continue
        raise Exception(f"{code}: {data['error']['message']}")

session_id = create_session()
try:
    response = requests.post(
        f"{BASE_URL}/session/request", headers=HEADERS, json={"sessionId": session_id, "url": TARGET, "method": "GET"}
    )
    if not response.json()["success"]:
        print(response.json()["error"]["code"])
finally:
    print(close_session_safely(session_id), close_session_safely(session_id), close_session_safely("session_none"))
"""

WORKFLOW = """
session_id = create_session()
try:
    response = requests.post(
        f"{BASE_URL}/session/request",
        headers=HEADERS,
        json={"sessionId": session_id, "url": TARGET, "method": "POST", "body": {"username": "ada", "n": 1}},
    )
    result = response.json()["data"]["task"]["result"]
    print(result["statusCode"], result["body"])
finally:
    data = requests.post(f"{BASE_URL}/session/close", headers=HEADERS, json={"sessionId": session_id}).json()
    print(data["data"]["session"]["id"] == session_id)
"""


def test_simple_close(running: Engine) -> None:
    """Create, close, print what came back."""
    out = python(running, SIMPLE_CLOSE)
    assert out.startswith("Session session_")
    assert out.endswith(" is closed\n")
    assert running.sessions() == []


def test_safe_close_in_a_finally(running: Engine, target: Any) -> None:
    """Closed, already closed and not found are all the end of it; SERVICE_ERROR is tried again."""
    running.faults.fail("close", times=2)
    assert python(running, SAFE_CLOSE, target=target.url("/drop")) == (
        "TARGET_UNREACHABLE\nclosed SESSION_CLOSED SESSION_NOT_FOUND\n"
    )
    assert running.sessions() == []
    assert running.calls("close") == 5


def test_the_complete_workflow(running: Engine, target: Any) -> None:
    """Create, request with an object as its body, close in a finally."""
    out = python(running, WORKFLOW, target=target.url("/echo"))
    assert out.startswith("200 {")
    assert '"method": "POST"' in out
    assert out.endswith("\nTrue\n")
    assert running.totals() == {"opened": 1, "closed": 1, "expired": 0, "active": 0}


CURL_CREATE = """
SESSION_ID=$(curl -s -X POST "$BASE_URL/session/create" \
  -H "Content-Type: application/json" -H "apikey: $API_KEY" \
  -d '{"mode": "passive", "sensibility": "medium", "timeout": 300}' | jq -r '.session.id')
"""

CURL_CLOSE = """
curl -s -X POST "$BASE_URL/session/close" \
  -H "Content-Type: application/json" -H "x-api-key: $API_KEY" \
  -d "{\\"sessionId\\": \\"$SESSION_ID\\"}" | jq -r '.success, .service, .data.session.id, .data.session.status'
"""

CURL_SAFE_CLOSE = """
close_session() {
  for attempt in 1 2 3; do
    RESPONSE=$(curl -s -X POST "$BASE_URL/session/close" \
      -H "Content-Type: application/json" -H "x-api-key: $API_KEY" -d "{\\"sessionId\\": \\"$SESSION_ID\\"}")
    if [ "$(echo "$RESPONSE" | jq -r '.success')" = "true" ]; then echo closed; return 0; fi
    CODE=$(echo "$RESPONSE" | jq -r '.error.code')
    case "$CODE" in
      SESSION_CLOSED|SESSION_NOT_FOUND) echo "$CODE"; return 0 ;;
      SERVICE_ERROR) sleep 0.01 ;;
      *) echo "$CODE" >&2; return 1 ;;
    esac
  done
  return 1
}
trap close_session EXIT
"""

CURL_REQUEST = """
curl -s -X POST "$BASE_URL/session/request" \
  -H "Content-Type: application/json" -H "x-api-key: $API_KEY" \
  -d "{\\"sessionId\\": \\"$SESSION_ID\\", \\"url\\": \\"$TARGET\\", \\"method\\": \\"GET\\"}" \
  | jq -r '.data.task.result.statusCode, .data.task.result.body'
"""


@shell
def test_curl_simple_close(running: Engine) -> None:
    """Create and close from a shell."""
    out = bash(running, CURL_CREATE + CURL_CLOSE).split("\n")
    assert out[:2] == ["true", "MyDisct Solver BBRE"]
    assert out[2].startswith("session_")
    assert out[3] == "closed"
    assert running.sessions() == []


@shell
def test_curl_complete_workflow_with_a_safe_close_at_exit(running: Engine, target: Any) -> None:
    """Create, request, and a close in a trap that tries again after SERVICE_ERROR."""
    running.faults.fail("close", times=2)
    out = bash(running, CURL_CREATE + CURL_SAFE_CLOSE + CURL_REQUEST, target=target.url("/gzip"))
    assert out == '200\n{"ok": true}\nclosed\n'
    assert running.sessions() == []


@shell
def test_curl_safe_close_of_what_holds_no_slot(running: Engine) -> None:
    """Closed before and never known are success in cleanup."""
    session = bash(running, CURL_CREATE + CURL_CLOSE).split("\n")[2]
    assert bash(running, CURL_SAFE_CLOSE, session=session) == "SESSION_CLOSED\n"
    assert bash(running, CURL_SAFE_CLOSE, session="session_none") == "SESSION_NOT_FOUND\n"


@shell
def test_curl_sees_the_errors_of_the_contract(running: Engine) -> None:
    """Status and code as stated, for a shell that asks without key, with a wrong one, and without an id."""
    script = """
    ask() { curl -s -o /dev/stdout -w '%{http_code}\\n' -X POST "$BASE_URL/session/close" \
      -H "Content-Type: application/json" "$@" | jq -rs '"\\(.[0].error.code) \\(.[1])"'; }
    ask -d '{"sessionId": "x"}'
    ask -H "x-api-key: wrong" -d '{"sessionId": "x"}'
    ask -H "apikey: $API_KEY" -d '{}'
    ask -H "apikey: $API_KEY" -d '{"sessionId": "x"}'
    """
    assert bash(running, script).split("\n")[:4] == [
        "API_KEY_REQUIRED 401",
        "INVALID_API_KEY 403",
        "SESSION_ID_REQUIRED 400",
        "SESSION_NOT_FOUND 404",
    ]
