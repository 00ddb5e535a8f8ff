import assert from "node:assert/strict";
import { test } from "node:test";
import { REFUSALS, RETRY_AFTER_S } from "../src/refusals-table.js";
import { readRefusal, refusalOf, shouldRetry, type Refusal } from "../src/index.js";

type Retry = Refusal["retry"];

interface Row {
  name: string;
  door: string;
  ends: string;
  retry: Retry;
  status: number;
  code: number;
  closeCode: number;
  message: string;
}

const ROWS: Row[] = REFUSALS.flatMap(([door, ends, retry, status, code, closeCode, messages]) =>
  Object.entries(messages).map(([name, message]) => ({ name, door, ends, retry, status, code, closeCode, message })),
);

/** What fields may hold: nothing, words of other messages, what means something in patterns and JSON. */
const AWKWARD = ["", "7", "{text}", "a.*b$ \\ (?", 'line\nbreak\u2028 "quoted" \u{1f600}', "x".repeat(500)];

const fill = (row: Row, text: string): string => row.message.replace(/\{\w+\}/g, () => text);
const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** As engine.io-client makes them; the class is not needed, and two copies of it may be loaded. */
function transportError(message: string, description: unknown, context?: unknown): Error {
  return Object.assign(new Error(message), { type: "TransportError", description, context });
}

function answer(row: Row, message: string, retryAfter: string | null = null): [number, string, string | null] {
  return [row.status, JSON.stringify({ code: row.code, message }), retryAfter];
}

/** What each transport hands over for an error answer. */
const HTTP: Record<string, (status: number, responseText: string, retryAfter: string | null) => unknown> = {
  "long-polling, XMLHttpRequest": (status, responseText, retryAfter) =>
    transportError("xhr poll error", status, new Xhr(status, responseText, retryAfter)),
  "long-polling, after the connection": (status, responseText) =>
    transportError("xhr post error", status, { status, responseText }),
  "xhr-streaming": (status, responseText, retryAfter) =>
    transportError(`xhr-streaming: answered with ${status}`, status, {
      status,
      responseText,
      getResponseHeader: () => retryAfter,
    }),
};

class Xhr {
  constructor(
    readonly status: number,
    readonly responseText: string,
    private readonly retryAfter: string | null,
  ) {}
  getResponseHeader(name: string): string | null {
    assert.equal(name.toLowerCase(), "retry-after");
    return this.retryAfter; // fails where it is not called on the object
  }
}

const closed = (code: number, reason: string): unknown => ({
  description: "websocket connection closed",
  context: { type: "close", code, reason, wasClean: true },
});

const connectError = (message: string, data?: unknown): Error => Object.assign(new Error(message), { data });

/** The server cuts a reason to 123 bytes, and leaves out what is left of a character. */
function cut(reason: string): string {
  const bytes = new TextEncoder().encode(reason).subarray(0, 123);
  return new TextDecoder("utf-8").decode(bytes, { stream: true });
}

/** Rows that a client cannot tell apart: one of them is found, which is why they must be alike. */
function twins(row: Row, isAnswer: boolean): Row[] {
  const numbers = (each: Row): string => (isAnswer ? `${each.status} ${each.code}` : `${each.closeCode}`);
  return ROWS.filter((each) => numbers(each) === numbers(row) && fill(each, "") === fill(row, ""));
}

function assertFound(found: Refusal | undefined, row: Row, candidates: Row[], message: string): void {
  assert.ok(found, `${row.name}: ${message}`);
  assert.equal(found.name, candidates[0]?.name, message);
  assert.deepEqual([found.ends, found.retry, found.message], [row.ends, row.retry, message]);
  assert.equal(found.retryAfterS, row.retry === "later" ? RETRY_AFTER_S : undefined);
}

test("rows that look alike to a client are alike in what it should do", () => {
  for (const row of ROWS) {
    for (const isAnswer of [true, false]) {
      if (isAnswer ? row.status === 0 : row.closeCode === 0) continue;
      for (const twin of twins(row, isAnswer)) {
        assert.deepEqual([twin.ends, twin.retry], [row.ends, row.retry], `${twin.name} and ${row.name}`);
      }
    }
  }
});

for (const [transport, hand] of Object.entries(HTTP)) {
  test(`every answer is found: ${transport}`, () => {
    const rows = ROWS.filter((row) => row.status !== 0);
    assert.ok(rows.length > 0);
    for (const row of rows) {
      for (const text of AWKWARD) {
        for (const message of [fill(row, text), capital(fill(row, text))]) {
          const found = refusalOf(hand(...answer(row, message)));
          assertFound(found, row, twins(row, true), message);
          assert.deepEqual([found?.status, found?.code, found?.closeCode], [row.status, row.code, undefined]);
        }
      }
    }
  });
}

test("every answer is found: long-polling by fetch, once it is read", async () => {
  for (const row of ROWS.filter((each) => each.status !== 0)) {
    const message = fill(row, 'a "b"');
    const [status, body] = answer(row, message);
    const error = transportError("fetch read error", status, new Response(body, { status }));
    assert.equal(refusalOf(error), undefined);
    assertFound(await readRefusal(error), row, twins(row, true), message);
    assertFound(await readRefusal(error), row, twins(row, true), message);
  }
});

test("every close frame is found, also where its reason was cut", () => {
  const rows = ROWS.filter((row) => row.closeCode !== 0);
  assert.ok(rows.length > 0);
  for (const row of rows) {
    for (const text of [...AWKWARD, "ä".repeat(200), "\u{1f600}".repeat(100)]) {
      const message = cut(fill(row, text));
      const found = refusalOf(closed(row.closeCode, message));
      assertFound(found, row, twins(row, false), message);
      assert.deepEqual([found?.closeCode, found?.status], [row.closeCode, undefined]);
    }
  }
});

test("every refused namespace is found", () => {
  const rows = ROWS.filter((row) => row.ends === "namespace");
  assert.ok(rows.length > 0);
  for (const row of rows) {
    for (const text of AWKWARD) {
      const message = fill(row, text);
      assertFound(refusalOf(connectError(message)), row, [row], message);
      assertFound(refusalOf(connectError(message, { code: 7 })), row, [row], message);
    }
  }
});

test("an application's own words are the last resort, and final", () => {
  const row = (name: string): Row => ROWS.find((each) => each.name === name) as Row;
  const refused = row("handshake_refused");
  for (const message of ["The session was closed", "Not you"]) {
    const error = HTTP["xhr-streaming"]?.(...answer(refused, message));
    const expected = message === "Not you" ? refused : row("left_early");
    assert.equal(refusalOf(error)?.name, expected.name);
    assert.equal(shouldRetry(error), expected.retry !== "no");
  }
  assert.equal(refusalOf(connectError("Invalid namespaces"))?.name, "join_refused");
  assert.equal(shouldRetry(connectError("no entry")), false);
});

test("the server's own Retry-After is taken, where it is seconds", () => {
  const row = ROWS.find((each) => each.retry === "later" && each.status !== 0) as Row;
  const waits = (header: string | null): number | undefined =>
    refusalOf(HTTP["xhr-streaming"]?.(...answer(row, fill(row, "1"), header)))?.retryAfterS;
  assert.equal(waits("17"), 17);
  assert.equal(waits("Wed, 21 Oct 2015 07:28:00 GMT"), RETRY_AFTER_S);
  assert.equal(waits(null), RETRY_AFTER_S);
});

test("errors of others are none of ours", async () => {
  const [row] = ROWS as [Row];
  const known = JSON.stringify({ code: row.code, message: row.message });
  const foreign: unknown[] = [
    undefined,
    null,
    "transport close",
    42,
    new Error("timeout"),
    new Error("Invalid namespace"),
    new Error("It seems you are trying to reach a Socket.IO server in v2.x with a v3.x client"),
    Object.assign(new Error("server error"), { code: 3 }),
    transportError("websocket error", { type: "error" }),
    transportError("websocket error", { type: "error", message: "Unexpected server response: 403" }),
    transportError("xhr poll error", 0, { status: 0, responseText: "" }),
    transportError("xhr poll error", row.status, { status: row.status }),
    transportError("xhr poll error", 502, { status: 502, responseText: "<html>Bad Gateway</html>" }),
    transportError("xhr poll error", 502, { status: 502, responseText: known }),
    ...["null", "[]", "3", '"text"', '{"code":3}', '{"message":"Not found"}', '{"code":"3","message":"Not found"}'].map(
      (responseText) => transportError("xhr poll error", row.status, { status: row.status, responseText }),
    ),
    transportError("xhr poll error", row.status, {
      status: row.status,
      responseText: JSON.stringify({ code: row.code, message: "None of the server's messages" }),
    }),
    transportError("fetch read error", new TypeError("fetch failed")),
    transportError("xhr-streaming: post error", new Error("reset"), undefined),
    { description: "transport closed by the server" },
    closed(1000, ""),
    closed(1002, ""),
    closed(1006, ""),
    closed(1002, "of a proxy"),
    closed(1002, `of a proxy ${"x".repeat(112)}`),
    closed(4000, "server shutting down"),
  ];
  for (const error of foreign) {
    assert.equal(refusalOf(error), undefined, String(error));
    assert.equal(await readRefusal(error), undefined, String(error));
    assert.equal(shouldRetry(error), true);
  }
  const used = new Response(known, { status: row.status });
  await used.text();
  assert.equal(await readRefusal(transportError("fetch read error", row.status, used)), undefined);
});

test("the types say which names and words there are", () => {
  const retry = (refusal: Refusal): Retry => {
    switch (refusal.name) {
      case "origin_refused":
        return refusal.retry;
      // @ts-expect-error: no such name
      case "origin_refuse":
        return "no";
      default:
        return refusal.retry;
    }
  };
  const found = refusalOf(connectError("Invalid namespace"));
  assert.ok(found);
  assert.equal(retry(found), "no");
});
