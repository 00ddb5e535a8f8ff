import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Downstream } from "../src/transports/downstream.js";
import type { StreamEnd, StreamEvents } from "../src/transports/http.js";

function refused(status: number): StreamEnd {
  return { kind: "refused", answer: { status, responseText: "", getResponseHeader: () => null } };
}

interface Response extends StreamEvents {
  ack: number;
  isAborted: boolean;
  send(...records: string[]): void;
}

class Line {
  readonly responses: Response[] = [];
  readonly records: string[] = [];
  readonly failures: { reason: string; isGone: boolean }[] = [];
  readonly answers: (number | undefined)[] = [];
  timers = 0;
  stallTimeoutMs = 30_000;
  onRecord: (record: string) => void = () => {};

  readonly down: Downstream = new Downstream({
    connect: (ack, events) => {
      const response: Response = {
        ...events,
        ack,
        isAborted: false,
        send(...records) {
          events.onData();
          for (const record of records) events.onRecord(record);
        },
      };
      this.responses.push(response);
      return () => {
        response.isAborted = true;
      };
    },
    onResponse: () => {},
    onRecord: (record) => {
      this.records.push(record);
      this.onRecord(record);
    },
    onFail: (reason, _cause, isGone, answer) => {
      this.failures.push({ reason, isGone });
      this.answers.push(answer?.status);
    },
    setTimer: (callback, ms) => {
      this.timers++;
      let isOn = true;
      const off = (): void => {
        if (isOn) this.timers--;
        isOn = false;
      };
      const timer = setTimeout(() => {
        off();
        callback();
      }, ms);
      return () => {
        clearTimeout(timer);
        off();
      };
    },
    stallTimeoutMs: () => this.stallTimeoutMs,
    firstRecordTimeoutMs: 3_000,
  });

  get current(): Response {
    return this.responses[this.responses.length - 1] as Response;
  }

  start(...records: string[]): this {
    this.down.open();
    this.current.onResponse();
    this.current.send("0{}");
    this.down.confirm();
    this.current.send(...records);
    return this;
  }
}

beforeEach(() => {
  mock.timers.reset();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
});

test("a whole response is followed at once by the next, with the count of all records", () => {
  const line = new Line().start("4a", "4b");
  line.current.onEnd({ kind: "whole" });
  assert.equal(line.responses.length, 2);
  assert.equal(line.current.ack, 3);
  line.current.send("6   ", "4c");
  line.current.onEnd({ kind: "whole" });
  assert.equal(line.current.ack, 5);
});

test("nothing comes from a response that was left", () => {
  const line = new Line().start();
  const old = line.current;
  mock.timers.tick(30_000);
  assert.equal(old.isAborted, true);
  old.send("4late");
  old.onEnd({ kind: "whole" });
  assert.deepEqual(line.records, ["0{}"]);
  assert.equal(line.down.received, 1);
});

test("a response that breaks off is asked for again after a short while", () => {
  const line = new Line().start("4a");
  line.current.onEnd({ kind: "cut", cause: null });
  assert.equal(line.responses.length, 1);
  mock.timers.tick(100);
  assert.equal(line.responses.length, 2);
  assert.equal(line.current.ack, 2);
  assert.equal(line.failures.length, 0);
});

test("responses that keep breaking off end in failure, after growing pauses", () => {
  const line = new Line().start();
  const startedAt = Date.now();
  while (line.failures.length === 0 && line.responses.length < 100) {
    line.current.onEnd({ kind: "cut", cause: null });
    mock.timers.tick(3_000);
  }
  assert.equal(line.responses.length, 9);
  assert.equal(line.failures[0]?.isGone, false);
  assert.ok(Date.now() - startedAt < 60_000);
  assert.equal(line.timers, 0);
});

test("padding alone does not count as progress", () => {
  const line = new Line().start();
  for (let i = 0; i < 50 && line.failures.length === 0; i++) {
    line.current.send("6              ");
    line.current.onEnd({ kind: "cut", cause: null });
    mock.timers.tick(3_000);
  }
  assert.equal(line.failures.length, 1);
});

test("an empty response does not start a tight loop", () => {
  const line = new Line().start();
  line.current.onEnd({ kind: "whole" });
  line.current.onEnd({ kind: "whole" });
  assert.equal(line.responses.length, 2);
  mock.timers.tick(100);
  assert.equal(line.responses.length, 3);
});

test("a refused resume fails at once, a broken server is asked again", () => {
  const line = new Line().start("4a");
  line.current.onEnd({ kind: "cut", cause: null });
  mock.timers.tick(100);
  line.current.onEnd(refused(502));
  assert.equal(line.failures.length, 0);
  mock.timers.tick(200);
  line.current.onEnd(refused(400));
  assert.deepEqual(line.failures, [{ reason: "the session is gone (400)", isGone: true }]);
  assert.deepEqual(line.answers, [400]);
  mock.timers.tick(60_000);
  assert.equal(line.responses.length, 3);
});

test("silence before the first record means a buffering proxy", () => {
  const line = new Line();
  line.down.open();
  mock.timers.tick(2_000);
  line.current.onResponse();
  mock.timers.tick(2_999);
  assert.equal(line.failures.length, 0);
  mock.timers.tick(1);
  assert.match(line.failures[0]?.reason ?? "", /buffered by a proxy/);
  assert.equal(line.current.isAborted, true);
  assert.equal(line.timers, 0);
});

test("a record that does not confirm the stream does not stop the wait", () => {
  const line = new Line();
  line.down.open();
  line.current.send("6      ");
  mock.timers.tick(3_000);
  assert.equal(line.failures.length, 1);
});

test("an end before confirmation is a failure", () => {
  for (const how of [
    { kind: "whole" },
    { kind: "cut", cause: null },
    refused(400),
    refused(503),
  ] as const) {
    const line = new Line();
    line.down.open();
    line.current.onEnd(how);
    assert.deepEqual(line.failures.length, 1, how.kind);
    mock.timers.tick(60_000);
    assert.equal(line.responses.length, 1);
  }
});

test("a silent response is taken for dead, one that brings bytes is not", () => {
  const line = new Line().start();
  for (let i = 0; i < 10; i++) {
    mock.timers.tick(20_000);
    line.current.onData();
  }
  assert.equal(line.responses.length, 1);
  mock.timers.tick(30_000);
  mock.timers.tick(100);
  assert.equal(line.responses.length, 2);
});

test("without a stall timeout silence is just silence", () => {
  const line = new Line();
  line.stallTimeoutMs = 0;
  line.start();
  mock.timers.tick(3_600_000);
  assert.equal(line.responses.length, 1);
  assert.equal(line.timers, 0);
});

test("a resume that is never answered is given up for another", () => {
  const line = new Line().start("4a");
  line.current.onEnd({ kind: "whole" });
  mock.timers.tick(6_000);
  assert.equal(line.current.isAborted, true);
  mock.timers.tick(100);
  assert.equal(line.responses.length, 3);
});

test("draining is done when the server's noop has ended the response", () => {
  const line = new Line().start("4a");
  let isDrained = false;
  line.down.drain(() => {
    isDrained = true;
  });
  line.current.send("4b", "6");
  assert.equal(isDrained, false);
  line.current.onEnd({ kind: "whole" });
  assert.equal(isDrained, true);
  assert.deepEqual(line.records, ["0{}", "4a", "4b", "6"]);
  assert.equal(line.timers, 0);
});

test("draining asks on after any other end", () => {
  const line = new Line().start("4a");
  let isDrained = false;
  line.down.drain(() => {
    isDrained = true;
  });
  line.current.send("4b");
  line.current.onEnd({ kind: "whole" });
  assert.equal(line.responses.length, 2);
  line.current.send("6   ");
  line.current.onEnd({ kind: "cut", cause: null });
  assert.equal(isDrained, false);
  mock.timers.tick(100);
  line.current.send("6   ", "6");
  line.current.onEnd({ kind: "whole" });
  assert.equal(isDrained, true);
});

test("draining after the server's noop is done at once", () => {
  const line = new Line().start("6");
  line.current.onEnd({ kind: "whole" });
  let isDrained = false;
  line.down.drain(() => {
    isDrained = true;
  });
  assert.equal(isDrained, true);
  mock.timers.tick(60_000);
  assert.equal(line.responses.length, 1);
});

test("an upgrade that takes its time is not polled in a tight loop", () => {
  const line = new Line().start("6");
  for (let i = 0; i < 20; i++) {
    line.current.onEnd({ kind: "whole" });
    mock.timers.tick(49);
    assert.equal(line.responses.length, i + 1);
    mock.timers.tick(1);
    line.current.send("6               ", "6");
  }
  assert.equal(line.failures.length, 0);
});

test("closing inside a record's listener delivers no more", () => {
  const line = new Line();
  line.onRecord = (record) => record === "4a" && line.down.close();
  line.start("4a", "4b");
  assert.deepEqual(line.records, ["0{}", "4a"]);
  assert.equal(line.current.isAborted, true);
  assert.equal(line.timers, 0);
});

test("a listener that throws costs neither the stream nor the next record", (context) => {
  const thrown: (() => void)[] = [];
  context.mock.method(globalThis, "queueMicrotask", (callback: () => void) => thrown.push(callback));
  const line = new Line();
  line.onRecord = (record) => {
    if (record === "4a") throw new Error("theirs");
  };
  line.start("4a", "4b");
  assert.deepEqual(line.records, ["0{}", "4a", "4b"]);
  assert.throws(() => thrown[0]?.(), /theirs/);
});
