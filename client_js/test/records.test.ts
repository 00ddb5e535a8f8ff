import assert from "node:assert/strict";
import { test } from "node:test";
import { RecordDecoder, RecordSplitter, splitPayload, utf8Length } from "../src/transports/records.js";

const TEXT = '0{"sid":"é"}\u001e6\u001e4\ufeffzwölf €\u001e4😀\u001ebAQID\u001e';
const RECORDS = ['0{"sid":"é"}', "6", "4\ufeffzwölf €", "4😀", "bAQID"];

test("records come out whole, wherever two cuts fall", () => {
  const bytes = new TextEncoder().encode(TEXT);
  for (let first = 0; first <= bytes.length; first++) {
    for (let second = first; second <= bytes.length; second++) {
      const decoder = new RecordDecoder();
      const pieces = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)];
      assert.deepEqual(pieces.flatMap((piece) => decoder.push(piece)), RECORDS);
      assert.equal(decoder.end(), true);
    }
  }
});

test("records come out whole byte by byte, each with its separator and not before", () => {
  const decoder = new RecordDecoder();
  const records: string[] = [];
  for (const byte of new TextEncoder().encode(TEXT)) {
    const found = decoder.push(Uint8Array.of(byte));
    assert.equal(found.length, byte === 0x1e ? 1 : 0);
    records.push(...found);
  }
  assert.deepEqual(records, RECORDS);
});

test("a stream that stops inside a record, or inside a character, is known", () => {
  const bytes = new TextEncoder().encode("4a\u001e4€");
  for (let length = 0; length <= bytes.length; length++) {
    const decoder = new RecordDecoder();
    decoder.push(bytes.subarray(0, length));
    assert.equal(decoder.end(), length === 0 || length === 3, `after ${length} bytes`);
  }
});

test("an empty record is a record", () => {
  const splitter = new RecordSplitter();
  assert.deepEqual(splitter.push("\u001e\u001e4"), ["", ""]);
  assert.equal(splitter.isInsideRecord, true);
});

test("the length in UTF-8 is what the encoder makes", () => {
  for (const text of ["", "a", "é", "€", "😀", "aé€😀\u001e\u07ff\u0800\uffff"]) {
    assert.equal(utf8Length(text), new TextEncoder().encode(text).length);
  }
});

test("a payload within the limit stays one", () => {
  assert.deepEqual(splitPayload("4a\u001e4b", 5), ["4a\u001e4b"]);
  assert.deepEqual(splitPayload("4a\u001e4b", 0), ["4a\u001e4b"]);
});

test("a payload over the limit is cut between packets", () => {
  assert.deepEqual(splitPayload("4a\u001e4b\u001e4c", 5), ["4a\u001e4b", "4c"]);
  assert.deepEqual(splitPayload("4a\u001e4b\u001e4c", 4), ["4a", "4b", "4c"]);
  assert.deepEqual(splitPayload("4€€\u001e4b", 8), ["4€€", "4b"]);
});

test("a packet over the limit goes alone", () => {
  assert.deepEqual(splitPayload("4a\u001e4bbbbbb\u001e4c", 4), ["4a", "4bbbbbb", "4c"]);
});
