import assert from "node:assert/strict";
import { test } from "node:test";
import { RecordSplitter, splitPayload, utf8Length } from "../src/transports/records.js";

const TEXT = '0{"sid":"é"}\u001e6\u001e4\ufeffzwölf €\u001e4😀\u001ebAQID\u001e';
const RECORDS = ['0{"sid":"é"}', "6", "4\ufeffzwölf €", "4😀", "bAQID"];

test("records come out whole, wherever two cuts fall", () => {
  for (let first = 0; first <= TEXT.length; first++) {
    for (let second = first; second <= TEXT.length; second++) {
      const splitter = new RecordSplitter();
      const pieces = [TEXT.slice(0, first), TEXT.slice(first, second), TEXT.slice(second)];
      assert.deepEqual(pieces.flatMap((piece) => splitter.push(piece)), RECORDS);
      assert.equal(splitter.isInsideRecord, false);
    }
  }
});

test("records come out whole unit by unit, each with its separator and not before", () => {
  const splitter = new RecordSplitter();
  const records: string[] = [];
  for (const unit of TEXT.split("")) {
    const found = splitter.push(unit);
    assert.equal(found.length, unit === "\u001e" ? 1 : 0);
    assert.equal(splitter.isInsideRecord, unit !== "\u001e");
    records.push(...found);
  }
  assert.deepEqual(records, RECORDS);
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
