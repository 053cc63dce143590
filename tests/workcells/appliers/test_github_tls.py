import shutil
import subprocess
from pathlib import Path

import pytest
from contracts.errors import BadSetting
from contracts.nouns import Action
from tests.workcells.appliers.github_server import Drip, GitHubServer
from workcells.appliers import SendUnknown, TargetUnavailable
from workcells.appliers.github import GitHub

COMMENT = Action(name="comment", target="o/r#1", payload={"body": "x" * 60_000}, precondition={})
KEY = "ab" * 32


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH: TLS towards GitHub is NOT tested")
    pem = tmp_path_factory.mktemp("tls") / "server.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    named = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(pem), "-out", f"{pem}.crt"]
    subprocess.run([*command.split(), *named], check=True, capture_output=True)
    with pem.open("a") as both:
        both.write(Path(f"{pem}.crt").read_text())
    return pem


def test_a_conversation_over_tls_is_like_any_other(certificate: Path) -> None:
    with GitHubServer(certificate=certificate) as server:
        server.add_issue("o/r#1")
        github = GitHub(server.token, url=server.url, ca_file=f"{certificate}.crt")
        assert github.send(COMMENT, key=KEY).changed
        assert github.probe(COMMENT, key=KEY, seconds_since_sent=0) == "applied"


def test_a_byte_now_and_then_over_tls_meets_the_deadline(certificate: Path) -> None:
    with GitHubServer(certificate=certificate) as server:
        server.add_issue("o/r#1")
        server.fail(Drip(from_the_start=True), method="POST")
        with pytest.raises(SendUnknown):
            GitHub(server.token, url=server.url, ca_file=f"{certificate}.crt", deadline_seconds=0.6).send(COMMENT, key=KEY)


def test_a_certificate_that_nobody_vouches_for_gets_no_token(certificate: Path) -> None:
    with GitHubServer(certificate=certificate) as server:
        with pytest.raises(TargetUnavailable, match=r"was not sent.*certificate"):
            GitHub(server.token, url=server.url).observe("o/r#1", ["state"])
        assert server.requests == []


def test_a_file_of_authorities_that_is_not_there_is_a_bad_setting(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"none\.pem"):
        GitHub("token", ca_file=str(tmp_path / "none.pem"))
