import assert from "node:assert/strict";
import { test } from "node:test";
import { tap } from "../src/cli/tap.js";

function heard(...packets: string[]): unknown[] {
  const events: unknown[] = [];
  const decoder = new (tap((event, args) => events.push([event, ...args])).Decoder)();
  for (const packet of packets) decoder.add(packet);
  return events;
}

test("events are told, whatever their name, and nothing else", () => {
  assert.deepEqual(heard('0{"sid":"a"}', '2["said","one",{"n":2}]', '31["answer"]', '27["question",1]'), [
    ["said", "one", { n: 2 }],
    ["question", 1],
  ]);
});

test("the offset that recovery adds is not among the arguments", () => {
  assert.deepEqual(heard('0{"sid":"a","pid":"p"}', '2["said","one","17-0"]', '27["question","one"]'), [
    ["said", "one"],
    ["question", "one"],
  ]);
});

test("binary events are told when they are whole", () => {
  const events: unknown[] = [];
  const decoder = new (tap((event, args) => events.push([event, ...args])).Decoder)();
  decoder.add('51-["blob",{"_placeholder":true,"num":0}]');
  assert.deepEqual(events, []);
  decoder.add(Buffer.from([1, 2]));
  assert.deepEqual(events, [["blob", Buffer.from([1, 2])]]);
});
