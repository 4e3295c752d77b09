from chaos import malformed_requests


def test_malformed_requests_are_refused_and_faults_are_reported(tmp_path, monkeypatch):
    answered = malformed_requests.answered

    def with_a_fault(port, number, seed):
        yield from answered(port, number, seed)
        yield "wrong_path", b"GET /", "500"

    monkeypatch.setattr(malformed_requests, "answered", with_a_fault)
    monkeypatch.setattr(malformed_requests, "ask_from_description", lambda *_: 1)  # see serve/test_malformed.py

    outcome = malformed_requests.run(40, seed=0, folder=tmp_path / "work")

    assert outcome.tries == 40
    assert outcome.lost == [f"wrong_path (seed {seed}): 500 for b'GET /'" for seed in (0, 1)]
