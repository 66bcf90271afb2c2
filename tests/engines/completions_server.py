"""A real HTTP server on this machine that speaks the completions protocol, with a tiny real model behind it.

It answers as vLLM documents it (token-id prompts, several prompts a request, ``logprobs``, ``logprob_token_ids``,
``allowed_token_ids``, ``logit_bias``, ``echo``, ``prompt_logprobs``, ``structured_outputs``; the name of an adapter as
``model``), or with ``dialect="sglang"`` as SGLang does: tokens as texts, no lists of tokens, ``ebnf``. What a server
does not know it ignores, as both do. ``faults`` are taken from the front, one a request, before it is answered.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BASE = "tiny-base"


@dataclass
class Fault:
    """What to do in place of an answer. ``when`` says for which request bodies; others wait for a later fault."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    sleep: float = 0.0
    change: Callable[[dict[str, Any]], None] | None = None
    when: Callable[[dict[str, Any]], bool] = lambda body: True
    times: int = 1


class TinyModel:
    """The backbone of a model folder with its adapters, run one prompt at a time."""

    def __init__(self, folder: Path) -> None:
        from retrieveall.adapters import AdapterPool
        from retrieveall.config import ModelConfig, load_yaml
        from retrieveall.engines.local.engine import LocalEngine

        config = load_yaml(ModelConfig, folder / "retrieveall.yaml")
        self.engine = LocalEngine.open(config, folder, device="cpu")
        self.codec = self.engine.codec
        self.languages = AdapterPool(folder).languages()
        self.lock = threading.Lock()

    def logits(self, ids: list[int], model: str) -> Any:
        """Logits float32 [tokens, vocabulary] of one prompt."""
        import torch

        with self.lock, torch.inference_mode(), self.engine.bank.use([{} if model == BASE else {model: 1.0}]):
            return self.engine.model(input_ids=torch.tensor([ids])).logits[0].float()


class CompletionsServer(ThreadingHTTPServer):
    """See the module. ``requests`` holds the bodies it got, ``times`` when, ``headers`` what came with the last."""

    daemon_threads = True

    def __init__(self, model: TinyModel, dialect: str = "vllm", processed: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model = model
        self.dialect = dialect
        self.processed = processed
        self.knows_tokens = dialect == "vllm"
        self.faults: list[Fault] = []
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.last_headers: dict[str, str] = {}
        self.active = self.most_active = 0
        self.key: str | None = None
        self.counter = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def models(self) -> dict[str, Any]:
        cards = [{"id": BASE, "object": "model", "owned_by": self.dialect, "parent": None}]
        cards += [
            {"id": name, "object": "model", "owned_by": self.dialect, "parent": BASE} for name in self.model.languages
        ]
        return {"object": "list", "data": cards}

    def fault(self, body: dict[str, Any]) -> Fault | None:
        with self.counter:
            for fault in self.faults:
                if fault.when(body):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    # -- completions --------------------------------------------------------------------------------------------------

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        # What a prefix cache does: a prompt that another one begins with costs nothing.
        longest = max(prompts, key=len)
        rows = self.model.logits(longest, body["model"])
        shared = [rows[len(ids) - 1] if longest[: len(ids)] == ids else None for ids in prompts]
        choices = [
            self._choice(number, ids, first, body)
            for number, (ids, first) in enumerate(zip(prompts, shared, strict=True))
        ]
        choices.reverse()  # the index counts, not the order
        return {"id": "cmpl-1", "object": "text_completion", "model": body["model"], "choices": choices}

    def _choice(self, number: int, prompt: list[int], first: Any, body: dict[str, Any]) -> dict[str, Any]:
        ids, made, told = list(prompt), [], []
        grammar = self._grammar(body)
        reason = "length"
        for _ in range(body.get("max_tokens", 16)):
            logits = self.model.logits(ids, body["model"])[-1] if made or first is None else first
            token, scores = self._sample(logits.clone(), grammar, body)
            made.append(token)
            told.append(scores)
            ids.append(token)
            if grammar is not None:
                grammar.consume_token(token)
            if token in (1, *body.get("stop_token_ids", ())):
                reason = "stop"
                break
        text = self.model.codec.decode([token for token in made if token != 1])
        choice: dict[str, Any] = {"index": number, "text": text, "finish_reason": reason, "logprobs": None}
        rows = [(token, scores, body.get("logprobs", 0)) for token, scores in zip(made, told, strict=True)]
        wanted = body.get("prompt_logprobs")
        if wanted is not None or body.get("echo"):
            rows_of_prompt = self._prompt_rows(prompt, body)
            if wanted is not None:
                choice["prompt_logprobs"] = [
                    None
                    if scores is None
                    else {str(key): {"logprob": value} for key, value in _top(scores, wanted, token)}
                    for token, scores, _ in rows_of_prompt
                ]
            if body.get("echo"):
                rows = rows_of_prompt + rows
                choice["text"] = self.model.codec.decode(prompt) + text
        if body.get("logprobs") is not None:
            choice["logprobs"] = self._logprobs(rows, body)
        return choice

    def _prompt_rows(self, prompt: list[int], body: dict[str, Any]) -> list[tuple[int, Any, int]]:
        scores = self.model.logits(prompt, body["model"]).log_softmax(-1)
        before = [None, *scores[:-1]]
        return [(token, row, body.get("logprobs") or 0) for token, row in zip(prompt, before, strict=True)]

    def _sample(self, logits: Any, grammar: Any, body: dict[str, Any]) -> tuple[int, Any]:
        import torch

        raw = logits.log_softmax(-1)
        for token, bias in body.get("logit_bias", {}).items():
            logits[int(token)] += bias
        banned = torch.zeros(len(logits), dtype=torch.bool)
        if self.knows_tokens and body.get("allowed_token_ids"):
            banned[:] = True
            banned[body["allowed_token_ids"]] = False
        if grammar is not None:
            banned |= ~_allowed(grammar, len(logits))
        logits = logits.masked_fill(banned, -torch.inf)
        processed = self.processed or self.dialect == "sglang"
        return int(logits.argmax()), logits.log_softmax(-1) if processed else raw

    def _logprobs(self, rows: list[tuple[int, Any, int]], body: dict[str, Any]) -> dict[str, Any]:
        wanted = body.get("logprob_token_ids") if self.knows_tokens else None
        tops: list[Any] = []
        for token, scores, count in rows:
            if scores is None:
                tops.append(None)
            elif wanted:
                tops.append({self._name(each, body): _plain(scores[each]) for each in (*wanted, token)})
            else:
                tops.append({self._name(each, body): value for each, value in _top(scores, count, token)})
        return {
            "tokens": [self._name(token, body) for token, _, _ in rows],
            "token_logprobs": [None if scores is None else _plain(scores[token]) for token, scores, _ in rows],
            "top_logprobs": tops,
            "text_offset": [0] * len(rows),
        }

    def _name(self, token: int, body: dict[str, Any]) -> str:
        if self.dialect == "vllm" and body.get("return_tokens_as_token_ids"):
            return f"token_id:{token}"
        return self.model.codec.decode([token])

    def _grammar(self, body: dict[str, Any]) -> Any:
        text = (body.get("structured_outputs") or {}).get("grammar") if self.dialect == "vllm" else body.get("ebnf")
        if text is None:
            return None
        from llguidance import LLMatcher, LLTokenizer, grammar_from

        tokenizer = LLTokenizer(self.model.codec.tokenizer.backend.to_str(), eos_token=1)
        matcher = LLMatcher(tokenizer, grammar_from("grammar", text))
        if matcher.get_error():
            raise ValueError(matcher.get_error())
        return matcher


def _plain(value: Any) -> float:
    return max(float(value), -9999.0)


def _top(scores: Any, count: int, token: int) -> list[tuple[int, float]]:
    best = [int(i) for i in scores.topk(count).indices] if count else []
    return [(each, _plain(scores[each])) for each in dict.fromkeys([*best, token])]


def _allowed(grammar: Any, vocabulary: int) -> Any:
    import numpy as np
    import torch

    bits = np.frombuffer(grammar.compute_bitmask(), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(bits, bitorder="little")[:vocabulary].astype(bool))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: CompletionsServer

    def do_GET(self) -> None:
        self._answer({}, self.server.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.counter:
            self.server.requests.append(body)
            self.server.times.append(time.monotonic())
            self.server.active += 1
            self.server.most_active = max(self.server.most_active, self.server.active)
        try:
            self._answer(body, lambda: self.server.complete(body))
        finally:
            with self.server.counter:
                self.server.active -= 1

    def _answer(self, body: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        self.server.last_headers = dict(self.headers)
        if self.server.key is not None and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self._send(401, {"error": {"message": f"wrong key in {self.headers.get('Authorization')}"}})
        fault = self.server.fault(body) if body else None
        if fault is not None:
            time.sleep(fault.sleep)
            if fault.change is None:
                return self._send(fault.status, fault.body, fault.headers)
        if body and body["model"] not in {card["id"] for card in self.server.models()["data"]}:
            return self._send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        answer = make()
        if fault is not None and fault.change is not None:
            fault.change(answer)
        return self._send(200, answer)

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
        except OSError:  # the client did not wait
            self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(model: TinyModel, **options: Any) -> Iterator[CompletionsServer]:
    """A server that runs inside the ``with`` block."""
    server = CompletionsServer(model, **options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
