import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { chooseHttp, exchange, viaFetch, viaXhr, type Failure } from "../src/transports/http.js";

const REQUEST = { url: "http://example.test/socket.io/", extraHeaders: { "x-a": "b" }, body: "" };

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

function answerOf(failure: Failure | undefined): [number, string, string | null] {
  assert.ok(failure?.status);
  return [failure.status, failure.responseText, failure.getResponseHeader("retry-after")];
}

function listen(via: "fetch" | "xhr", body = "") {
  if (via === "xhr") globals.XMLHttpRequest = FakeXhr;
  const seen = { texts: [] as string[], end: "none yet" as Failure | string | undefined };
  let abort = (): void => {};
  const ended = new Promise<Failure | undefined>((resolve) => {
    const onEnd = (failure?: Failure): void => {
      seen.end = failure;
      resolve(failure);
    };
    abort = exchange(chooseHttp(via), { ...REQUEST, body }, onEnd, (text) => seen.texts.push(text));
  });
  return { seen, abort, ended };
}

test("XMLHttpRequest: text comes with progress, up to the last record that is whole", async () => {
  const { seen, ended } = listen("xhr");
  const xhr = FakeXhr.last;
  assert.deepEqual([xhr.method, xhr.headers, xhr.body], ["GET", { "x-a": "b" }, null]);
  xhr.head(200);
  assert.deepEqual(seen.texts, [""]);
  xhr.text("0{}\u001e4\ufffd");
  assert.equal(seen.texts.join(""), "0{}\u001e");
  xhr.text("0{}\u001e4€\u001e4b");
  assert.equal(seen.texts.join(""), "0{}\u001e4€\u001e");
  xhr.load();
  assert.equal(await ended, undefined);
  assert.equal(seen.texts.join(""), "0{}\u001e4€\u001e4b");
});

test("XMLHttpRequest: what comes with the end is read", async () => {
  const { seen, ended } = listen("xhr");
  FakeXhr.last.head(200);
  FakeXhr.last.responseText = "4a\u001e4b";
  FakeXhr.last.load();
  assert.equal(await ended, undefined);
  assert.equal(seen.texts.join(""), "4a\u001e4b");
});

test("XMLHttpRequest: an error status is an answer, a network error an error, an abort says nothing", async () => {
  const refused = listen("xhr");
  FakeXhr.last.head(400);
  FakeXhr.last.text("4{}\u001e");
  FakeXhr.last.load();
  assert.deepEqual(answerOf(await refused.ended), [400, "4{}\u001e", "5"]);
  assert.deepEqual(refused.seen.texts, []);

  const cut = listen("xhr");
  FakeXhr.last.onerror({ type: "error" });
  assert.equal(String(await cut.ended), "Error: error");

  const aborted = listen("xhr");
  const xhr = FakeXhr.last;
  aborted.abort();
  assert.equal(xhr.isAborted, true);
  xhr.head(200);
  xhr.onerror({ type: "abort" });
  // One that ends after it, so that its end would have come.
  const later = listen("xhr");
  FakeXhr.last.onerror({ type: "error" });
  await later.ended;
  assert.deepEqual(aborted.seen, { texts: [], end: "none yet" });
});

test("XMLHttpRequest: a post reports what went wrong", async () => {
  const taken = listen("xhr", "4a");
  assert.deepEqual([FakeXhr.last.method, FakeXhr.last.body], ["POST", "4a"]);
  assert.equal(FakeXhr.last.headers["content-type"], "text/plain;charset=UTF-8");
  FakeXhr.last.status = 200;
  FakeXhr.last.load();
  assert.equal(await taken.ended, undefined);
  const refused = listen("xhr", "4a");
  FakeXhr.last.status = 413;
  FakeXhr.last.load();
  assert.equal(await refused.ended, FakeXhr.last);
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

test("fetch: text comes as it is read, to a whole end", async () => {
  const bytes = new TextEncoder().encode("0{}\u001e4€\u001e");
  respond([bytes.subarray(0, 6), bytes.subarray(6)]);
  const { seen, ended } = listen("fetch");
  assert.equal(await ended, undefined);
  assert.deepEqual(seen.texts, ["", "0{}\u001e4", "€\u001e", ""]);
});

test("fetch: characters are whole wherever the bytes are cut, and a byte order mark is one", async () => {
  const text = "4\ufeffzwölf €\u001e4😀\u001e";
  const bytes = new TextEncoder().encode(text);
  for (const pieces of [[...bytes].map((byte) => Uint8Array.of(byte)), [new TextEncoder().encode("\ufeff")]]) {
    const expected = pieces.length > 1 ? text : "\ufeff";
    respond([...pieces]);
    const { seen, ended } = listen("fetch");
    await ended;
    assert.equal(seen.texts.join(""), expected);
  }
  respond([new TextEncoder().encode("4€").subarray(0, 2)]);
  const cut = listen("fetch");
  await cut.ended;
  assert.equal(cut.seen.texts.join(""), "4\ufffd");
});

test("fetch: a broken body is an error", async () => {
  const failure = new Error("reset");
  respond([new TextEncoder().encode("4a\u001e")], failure);
  const { seen, ended } = listen("fetch");
  assert.equal(await ended, failure);
  assert.equal(seen.texts.join(""), "4a\u001e");
});

test("fetch: an error status is an answer, with what it says", async () => {
  const headers = { "retry-after": "5" };
  globals.fetch = (async () => new Response("no", { status: 404, headers })) satisfies typeof fetch;
  const { seen, ended } = listen("fetch");
  assert.deepEqual(answerOf(await ended), [404, "no", "5"]);
  assert.deepEqual(seen.texts, []);
});

test("fetch: nothing comes after an abort", async () => {
  let signal: AbortSignal | null | undefined;
  globals.fetch = (async (_url, init) => {
    ({ signal } = init ?? {});
    return new Response("4a\u001e");
  }) satisfies typeof fetch;
  const seen: (string | undefined)[] = [];
  await new Promise<void>((resolve) => {
    const abort = exchange(viaFetch, REQUEST, () => seen.push("end"), (text) => {
      seen.push(text);
      abort();
      resolve();
    });
  });
  globals.fetch = (async () => new Response("ok")) satisfies typeof fetch;
  await listen("fetch").ended;
  assert.deepEqual(seen, [""]);
  assert.equal(signal?.aborted, true);
});

test("fetch: a post reports what went wrong", async () => {
  let sent: RequestInit | undefined;
  globals.fetch = (async (_url, init) => {
    sent = init;
    return new Response("ok");
  }) satisfies typeof fetch;
  assert.equal(await listen("fetch", "4a").ended, undefined);
  assert.deepEqual([sent?.method, sent?.body, sent?.keepalive], ["POST", "4a", true]);
  // As the platform makes it of what was given.
  assert.equal(new Request("http://localhost", sent).headers.get("content-type"), "text/plain;charset=UTF-8");
  globals.fetch = (async () => new Response("no", { status: 413 })) satisfies typeof fetch;
  assert.deepEqual(answerOf(await listen("fetch", "4a").ended), [413, "no", null]);
  const failure = new Error("reset");
  globals.fetch = (async () => Promise.reject(failure)) satisfies typeof fetch;
  assert.equal(await listen("fetch", "4a").ended, failure);
});

test("fetch is chosen before XMLHttpRequest, and where there is neither every request fails", async () => {
  globals.XMLHttpRequest = FakeXhr;
  assert.equal(chooseHttp(), viaFetch);
  globals.fetch = undefined;
  assert.equal(chooseHttp(), viaXhr);
  for (const wanted of ["fetch", undefined] as const) {
    if (!wanted) delete globals.XMLHttpRequest;
    const failure = await new Promise((resolve) => exchange(chooseHttp(wanted), REQUEST, resolve));
    assert.match(String(failure), /no fetch or XMLHttpRequest that can stream/);
  }
});
