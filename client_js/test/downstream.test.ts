import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";
import { Downstream } from "../src/transports/downstream.js";
import type { ErrorAnswer, Failure } from "../src/transports/http.js";

const CUT = new Error("cut");

function refused(status: number): ErrorAnswer {
  return { status, responseText: "", getResponseHeader: () => null };
}

interface Response {
  ack: number;
  isAborted: boolean;
  onEnd(failure?: Failure): void;
  onText(text: string): void;
  send(...records: string[]): void;
}

class Line {
  readonly responses: Response[] = [];
  readonly records: string[] = [];
  readonly failures: string[] = [];
  readonly answers: (number | undefined)[] = [];
  timers = 0;
  stallTimeoutMs = 30_000;
  onRecord: (record: string) => void = () => {};

  readonly down: Downstream = new Downstream({
    connect: (ack, onEnd, onText) => {
      // As exchange() promises: nothing comes after an abort.
      const response: Response = {
        ack,
        isAborted: false,
        onEnd: (failure) => response.isAborted || onEnd(failure),
        onText: (text) => response.isAborted || onText(text),
        send: (...records) => response.onText(records.map((record) => `${record}\u001e`).join("")),
      };
      this.responses.push(response);
      return () => {
        response.isAborted = true;
      };
    },
    onText: () => {},
    onRecord: (record) => {
      this.records.push(record);
      this.onRecord(record);
    },
    onFail: (reason, cause) => {
      this.failures.push(reason);
      this.answers.push(cause?.status);
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
    stallMs: () => this.stallTimeoutMs,
    firstMs: 3_000,
  });

  get current(): Response {
    return this.responses[this.responses.length - 1] as Response;
  }

  start(...records: string[]): this {
    this.down.open();
    this.current.onText("");
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
  line.current.onEnd();
  assert.equal(line.responses.length, 2);
  assert.equal(line.current.ack, 3);
  line.current.send("6   ", "4c");
  line.current.onEnd();
  assert.equal(line.current.ack, 5);
});

test("nothing comes from a response that was left", () => {
  const line = new Line().start();
  const old = line.current;
  mock.timers.tick(30_000);
  assert.equal(old.isAborted, true);
  old.send("4late");
  old.onEnd();
  assert.deepEqual(line.records, ["0{}"]);
  assert.equal(line.down.received, 1);
});

test("a response that breaks off is asked for again after a short while", () => {
  const line = new Line().start("4a");
  line.current.onEnd(CUT);
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
    line.current.onEnd(CUT);
    mock.timers.tick(3_000);
  }
  assert.equal(line.responses.length, 9);
  assert.match(line.failures[0] ?? "", /breaks off again and again/);
  assert.ok(Date.now() - startedAt < 60_000);
  assert.equal(line.timers, 0);
});

test("padding alone does not count as progress", () => {
  const line = new Line().start();
  for (let i = 0; i < 50 && line.failures.length === 0; i++) {
    line.current.send("6              ");
    line.current.onEnd(CUT);
    mock.timers.tick(3_000);
  }
  assert.equal(line.failures.length, 1);
});

test("an empty response does not start a tight loop", () => {
  const line = new Line().start();
  line.current.onEnd();
  line.current.onEnd();
  assert.equal(line.responses.length, 2);
  mock.timers.tick(100);
  assert.equal(line.responses.length, 3);
});

test("a response that ends inside a record is a cut, and its rest is not part of the next", () => {
  const line = new Line().start();
  line.current.onText("4a\u001e4hal");
  line.current.onEnd();
  assert.equal(line.responses.length, 1);
  mock.timers.tick(100);
  assert.equal(line.current.ack, 2);
  line.current.onText("4who");
  line.current.onText("le\u001e");
  assert.deepEqual(line.records, ["0{}", "4a", "4whole"]);
});

test("a refused resume fails at once, a broken server is asked again", () => {
  const line = new Line().start("4a");
  line.current.onEnd(CUT);
  mock.timers.tick(100);
  line.current.onEnd(refused(502));
  assert.equal(line.failures.length, 0);
  mock.timers.tick(200);
  line.current.onEnd(refused(400));
  assert.deepEqual(line.failures, ["the session is gone (400)"]);
  assert.deepEqual(line.answers, [400]);
  mock.timers.tick(60_000);
  assert.equal(line.responses.length, 3);
});

test("silence before the first record means a buffering proxy", () => {
  const line = new Line();
  line.down.open();
  mock.timers.tick(2_000);
  line.current.onText("");
  mock.timers.tick(2_999);
  assert.equal(line.failures.length, 0);
  mock.timers.tick(1);
  assert.match(line.failures[0] ?? "", /buffered by a proxy/);
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
  for (const how of [undefined, CUT, refused(400), refused(503)]) {
    const line = new Line();
    line.down.open();
    line.current.onEnd(how);
    assert.equal(line.failures.length, 1);
    mock.timers.tick(60_000);
    assert.equal(line.responses.length, 1);
  }
});

test("a silent response is taken for dead, one that brings bytes is not", () => {
  const line = new Line().start();
  for (let i = 0; i < 10; i++) {
    mock.timers.tick(20_000);
    line.current.onText("");
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
  line.current.onEnd();
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
  line.current.onEnd();
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
  line.current.onEnd();
  assert.equal(line.responses.length, 2);
  line.current.send("6   ");
  line.current.onEnd(CUT);
  assert.equal(isDrained, false);
  mock.timers.tick(100);
  line.current.send("6   ", "6");
  line.current.onEnd();
  assert.equal(isDrained, true);
});

test("draining after the server's noop is done at once", () => {
  const line = new Line().start("6");
  line.current.onEnd();
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
    line.current.onEnd();
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
