import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { chooseHttp, type ErrorAnswer, type StreamEnd } from "../src/transports/http.js";

const REQUEST = { url: "http://example.test/socket.io/", headers: { "x-a": "b" }, withCredentials: false };

/** The part of XMLHttpRequest that is used, driven by the test. */
class FakeXhr {
  static last: FakeXhr;
  readyState = 0;
  status = 0;
  responseText = "";
  withCredentials = false;
  isAborted = false;
  headers: Record<string, string> = {};
  method = "";
  body: unknown;
  onreadystatechange = (): void => {};
  onprogress = (): void => {};
  onload = (): void => {};
  onerror = (_event: { type: string }): void => {};

  constructor() {
    FakeXhr.last = this;
  }
  open(method: string): void {
    this.method = method;
  }
  setRequestHeader(name: string, value: string): void {
    this.headers[name] = value;
  }
  send(body?: unknown): void {
    this.body = body;
  }
  abort(): void {
    this.isAborted = true;
  }
  getResponseHeader(name: string): string | null {
    return name === "retry-after" ? "5" : null;
  }

  head(status: number): void {
    this.status = status;
    this.readyState = 2;
    this.onreadystatechange();
  }
  text(text: string): void {
    this.responseText = text;
    this.readyState = 3;
    this.onreadystatechange();
    this.onprogress();
  }
  load(): void {
    this.readyState = 4;
    this.onreadystatechange();
    this.onload();
  }
}

const globals = globalThis as unknown as Record<string, unknown>;
const originalFetch = globals.fetch;

afterEach(() => {
  delete globals.XMLHttpRequest;
  globals.fetch = originalFetch;
});

function answerOf(end: StreamEnd | undefined): [number, string, string | null] {
  assert.equal(end?.kind, "refused");
  const { status, responseText, getResponseHeader } = end.answer;
  return [status, responseText, getResponseHeader("retry-after")];
}

function listen(via: "fetch" | "xhr") {
  if (via === "xhr") globals.XMLHttpRequest = FakeXhr;
  const seen = { heads: 0, records: [] as string[], end: undefined as StreamEnd | undefined };
  let finish = (): void => {};
  const ended = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const abort = chooseHttp(via)?.stream(REQUEST, {
    onResponse: () => seen.heads++,
    onData: () => {},
    onRecord: (record) => seen.records.push(record),
    onEnd: (end) => {
      seen.end = end;
      finish();
    },
  });
  assert.ok(abort);
  return { seen, abort, ended };
}

test("XMLHttpRequest: records come with progress, half a character and half a record wait", () => {
  const { seen } = listen("xhr");
  const xhr = FakeXhr.last;
  assert.deepEqual(xhr.headers, { "x-a": "b" });
  xhr.head(200);
  assert.equal(seen.heads, 1);
  xhr.text("0{}\u001e4\ufffd");
  assert.deepEqual(seen.records, ["0{}"]);
  xhr.text("0{}\u001e4€\u001e4b");
  assert.deepEqual(seen.records, ["0{}", "4€"]);
  xhr.text("0{}\u001e4€\u001e4b\u001e\u001e");
  xhr.load();
  assert.deepEqual(seen.records, ["0{}", "4€", "4b", ""]);
  assert.deepEqual(seen.end, { kind: "whole" });
  assert.equal(seen.heads, 1);
});

test("XMLHttpRequest: what comes with the end is read, an end inside a record is a cut", () => {
  const { seen } = listen("xhr");
  FakeXhr.last.head(200);
  FakeXhr.last.responseText = "4a\u001e4b";
  FakeXhr.last.load();
  assert.deepEqual(seen.records, ["4a"]);
  assert.equal(seen.end?.kind, "cut");
});

test("XMLHttpRequest: an error status is refused, a network error is a cut, an abort says nothing", () => {
  const refused = listen("xhr");
  FakeXhr.last.head(400);
  FakeXhr.last.text("4{}\u001e");
  FakeXhr.last.load();
  assert.deepEqual([refused.seen.heads, refused.seen.records], [0, []]);
  assert.deepEqual(answerOf(refused.seen.end), [400, "4{}\u001e", "5"]);

  const cut = listen("xhr");
  FakeXhr.last.onerror({ type: "error" });
  assert.deepEqual(cut.seen.end, { kind: "cut", cause: "error" });

  const aborted = listen("xhr");
  aborted.abort();
  assert.equal(FakeXhr.last.isAborted, true);
  FakeXhr.last.onerror({ type: "abort" });
  assert.equal(aborted.seen.end, undefined);
});

test("XMLHttpRequest: a post reports what went wrong", () => {
  globals.XMLHttpRequest = FakeXhr;
  const outcomes: (ErrorAnswer | Error | undefined)[] = [];
  chooseHttp("xhr")?.post(REQUEST, "4a", (outcome) => outcomes.push(outcome));
  assert.equal(FakeXhr.last.method, "POST");
  assert.equal(FakeXhr.last.body, "4a");
  FakeXhr.last.status = 200;
  FakeXhr.last.load();
  assert.deepEqual(outcomes, [undefined]);
  FakeXhr.last.status = 413;
  FakeXhr.last.load();
  assert.equal(outcomes[1], FakeXhr.last);
});

function respond(pieces: Uint8Array[], fail?: Error): void {
  globals.fetch = (async () =>
    new Response(
      new ReadableStream({
        pull(controller) {
          const piece = pieces.shift();
          if (piece) controller.enqueue(piece);
          else if (fail) controller.error(fail);
          else controller.close();
        },
      }),
    )) satisfies typeof fetch;
}

test("fetch: a response is read while it comes, to a whole end", async () => {
  const bytes = new TextEncoder().encode("0{}\u001e4€\u001e");
  respond([bytes.subarray(0, 6), bytes.subarray(6)]);
  const { seen, ended } = listen("fetch");
  await ended;
  assert.deepEqual(seen, { heads: 1, records: ["0{}", "4€"], end: { kind: "whole" } });
});

test("fetch: an end inside a record and a broken body are cuts", async () => {
  respond([new TextEncoder().encode("4a\u001e4b")]);
  const inside = listen("fetch");
  await inside.ended;
  assert.equal(inside.seen.end?.kind, "cut");

  respond([new TextEncoder().encode("4a\u001e")], new Error("reset"));
  const broken = listen("fetch");
  await broken.ended;
  assert.deepEqual(broken.seen.records, ["4a"]);
  assert.equal(broken.seen.end?.kind, "cut");
});

test("fetch: an error status is refused, with what the answer says", async () => {
  const headers = { "retry-after": "5" };
  globals.fetch = (async () => new Response("no", { status: 404, headers })) satisfies typeof fetch;
  const { seen, ended } = listen("fetch");
  await ended;
  assert.deepEqual(answerOf(seen.end), [404, "no", "5"]);
});

test("fetch: a post reports what went wrong", async () => {
  const post = () => new Promise<ErrorAnswer | Error | undefined>((resolve) => chooseHttp("fetch")?.post(REQUEST, "4a", resolve));
  globals.fetch = (async () => new Response("ok")) satisfies typeof fetch;
  assert.equal(await post(), undefined);
  globals.fetch = (async () => new Response("no", { status: 413 })) satisfies typeof fetch;
  assert.deepEqual(answerOf({ kind: "refused", answer: (await post()) as ErrorAnswer }), [413, "no", null]);
  const failure = new Error("reset");
  globals.fetch = (async () => Promise.reject(failure)) satisfies typeof fetch;
  assert.equal(await post(), failure);
});

test("fetch is chosen before XMLHttpRequest, and nothing where there is neither", () => {
  globals.XMLHttpRequest = FakeXhr;
  assert.equal(chooseHttp()?.name, "fetch");
  globals.fetch = undefined;
  assert.equal(chooseHttp()?.name, "xhr");
  assert.equal(chooseHttp("fetch"), undefined);
  delete globals.XMLHttpRequest;
  assert.equal(chooseHttp(), undefined);
});
