import assert from "node:assert/strict";
import { test } from "node:test";
import { refusalOf } from "../src/index.js";
import { REFUSALS, RETRY_AFTER_S } from "../src/refusals-table.js";
import { judge } from "../src/verdict.js";

/** Rows of which `judge()` says something else than the catalogue, and why that does no harm. */
const COARSER: Record<string, { retry: "no" | "anew" | "later"; because: string }> = {
  ...Object.fromEntries(
    [
      "bad_request_line", "bad_header", "repeated_header", "no_host", "bad_framing", "bad_length", "bare_line_end",
      "bad_query", "repeated_parameter", "bad_parameter", "upgrade_elsewhere", "not_an_upgrade", "upgrade_method",
      "upgrade_body", "websocket_key",
    ].map((name) => [
      name,
      { retry: "anew" as const, because: "a request that only a proxy on the way can have broken; code 3 is that of others too" },
    ]),
  ),
  left_early: { retry: "no", because: "a session that the client itself closed while it was let in: nobody waits for it" },
};

const fill = (message: string): string => message.replace(/\{\w+\}/g, "x");

/** Those whose answer an attempt can meet: of a request, or of the namespace. */
const ROWS = REFUSALS.flatMap(([door, ends, retry, status, code, , messages]) =>
  Object.entries(messages).map(([name, message]) => ({ name, door, ends, retry, status, code, message: fill(message) })),
).filter(({ status, ends }) => status !== 0 || ends === "namespace");

function errorOf({ ends, status, code, message }: (typeof ROWS)[number], retryAfter: string | null = null): Error {
  if (ends === "namespace") return Object.assign(new Error(message), { data: undefined });
  const context = { status, responseText: JSON.stringify({ code, message }), getResponseHeader: () => retryAfter };
  return Object.assign(new Error("xhr poll error"), { context });
}

test("the verdict on every refusal is the catalogue's, with named exceptions", () => {
  assert.ok(ROWS.length > 40);
  const names = new Set(ROWS.map(({ name }) => name));
  for (const name of Object.keys(COARSER)) assert.ok(names.has(name), `${name} is no row any more`);
  for (const row of ROWS) {
    const verdict = judge(errorOf(row));
    const exception = COARSER[row.name];
    assert.equal(verdict.retry, exception?.retry ?? row.retry, row.name);
    if (exception) assert.notEqual(row.retry, exception.retry, `${row.name} is no exception any more`);
    assert.equal(verdict.message, row.message, row.name);
    assert.equal(verdict.afterMs, verdict.retry === "later" ? RETRY_AFTER_S * 1_000 : undefined, row.name);
  }
});

test("the cause of a verdict is what refusalOf() takes, after the answer is emptied too", () => {
  for (const row of ROWS) {
    const error = errorOf(row) as Error & { context?: { status: number; responseText: string } };
    const expected = refusalOf(error);
    const { cause } = judge(error);
    if (error.context) Object.assign(error.context, { status: 0, responseText: "" });
    assert.ok(expected, row.name);
    assert.deepEqual(refusalOf(cause), expected, row.name);
  }
});

test("what the application refuses is worth another token, and nothing else is", () => {
  const forbidden = ROWS.filter((row) => judge(errorOf(row)).isForbidden).map(({ name }) => name);
  const expected: string[] = [
    "handshake_refused", "left_early", "origin_refused",
    "invalid_namespace", "already_joined", "too_many_namespaces", "join_refused",
  ];
  assert.deepEqual(forbidden.sort(), expected.sort());
});

test("Retry-After is taken where it is seconds", () => {
  const row = ROWS.find(({ name }) => name === "draining");
  assert.ok(row);
  for (const [header, ms] of [["7", 7_000], ["soon", 5_000], [null, 5_000], ["0", 5_000]] as const) {
    assert.equal(judge(errorOf(row, header)).afterMs, ms, String(header));
  }
  const error = Object.assign(new Error("xhr post error"), {
    context: { status: row.status, responseText: JSON.stringify({ code: row.code, message: row.message }) },
  });
  assert.equal(judge(error).afterMs, 5_000);
});

test("errors that are not the server's words are tried again", () => {
  const contexts: unknown[] = [
    undefined,
    null,
    {},
    { status: 0, responseText: "" },
    { status: 503, responseText: "<html>" },
    ...["null", "3", '"x"', "[]", '{"message":"x"}', '{"code":"4","message":"x"}'].map((responseText) => ({
      status: 401,
      responseText,
    })),
    { type: "close", code: 1012, reason: "server shutting down" },
  ];
  for (const context of contexts) {
    const error = Object.assign(new Error("xhr poll error"), { context });
    assert.deepEqual(judge(error), { retry: "anew", message: "xhr poll error", cause: error });
  }
});

