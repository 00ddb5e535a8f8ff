import assert from "node:assert/strict";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { Socket, type TransportCtor } from "engine.io-client";
import { Polling, XhrStreaming, refusalOf } from "../src/index.js";

const OPEN = '0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100000}';
const BAD_JSON = { code: 3, message: "Payload is not JSON" };
const UNKNOWN_SESSION = { code: 1, message: "Session ID unknown" };

type Answer = [status: number, body: object | string];

const reply = (response: ServerResponse, [status, body]: Answer): void => {
  response.writeHead(status).end(typeof body === "string" ? body : JSON.stringify(body));
};

interface Ending {
  asked: string[];
  error: unknown;
  reason: string;
}

/**
 * With a server that closes the session once a `POST` has come, and answers that when the client has taken the close
 * packet (never, without an answer); with `handshake` it answers nothing else.
 */
async function endOf(transports: TransportCtor[], { post, handshake }: { post?: Answer; handshake?: Answer }): Promise<Ending> {
  const asked: string[] = [];
  let down: ServerResponse | undefined;
  let posted: ServerResponse | undefined;
  let onTaken = (): void => {};
  const closeIfBoth = (isStream: boolean): void => {
    if (!down || !posted) return;
    const answered = posted;
    down.end(isStream ? "1\u001e" : "1");
    if (post) onTaken = () => reply(answered, post);
  };
  const server = createServer((request, response) => {
    const query = new URL(request.url ?? "", "http://localhost").searchParams;
    const isStream = query.get("transport") === "xhr-streaming";
    request.resume();
    if (request.method === "POST") {
      posted = response;
      closeIfBoth(isStream);
    } else if (query.has("sid")) {
      down = response;
      closeIfBoth(isStream);
    } else {
      asked.push(query.get("transport") ?? "");
      if (handshake) return reply(response, handshake);
      response.writeHead(200);
      if (!isStream) return void response.end(OPEN);
      down = response;
      response.write(`${OPEN}\u001e`);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const socket = new Socket(`http://127.0.0.1:${port}`, { transports, tryAllTransports: true });
  let error: unknown;
  socket.on("error", (each) => {
    // Inside the handler, as an application has to.
    error = refusalOf(each)?.name ?? each;
  });
  socket.on("open", () => {
    const { transport } = socket as unknown as { transport: { onData(data: string): void } };
    const onData = transport.onData.bind(transport);
    transport.onData = (data) => {
      onData(data);
      if (data === "1") onTaken();
    };
    socket.send("x");
  });
  const reason = await new Promise<string>((resolve) => socket.on("close", resolve));
  server.closeAllConnections();
  server.close();
  return { asked, error, reason };
}

for (const [name, Transport] of Object.entries({ polling: Polling, "xhr-streaming": XhrStreaming })) {
  test(`${name}: the answer to a POST tells why the server has closed the session`, async () => {
    const { error, reason } = await endOf([Transport], { post: [400, BAD_JSON] });
    assert.deepEqual([error, reason], ["bad_json", "transport error"]);
  });

  test(`${name}: a session that was closed for another reason is closed as ever`, async () => {
    for (const post of [[400, UNKNOWN_SESSION], [200, "ok"], [502, "<html>"]] satisfies Answer[]) {
      const { error, reason } = await endOf([Transport], { post });
      assert.deepEqual([error, reason], [undefined, "transport close"]);
    }
  });

  test(`${name}: an answer that does not come is not waited for long`, async () => {
    const { error, reason } = await endOf([Transport], {});
    assert.deepEqual([error, reason], [undefined, "transport close"]);
  });
}

test("a handshake that the server forbids is not tried on other transports", async () => {
  for (const [first, second] of [[XhrStreaming, Polling], [Polling, XhrStreaming]] as const) {
    const forbidden = await endOf([first, second], { handshake: [401, { code: 4, message: "no" }] });
    assert.deepEqual([forbidden.asked, forbidden.error], [[first.prototype.name], "handshake_refused"]);
    for (const handshake of [[400, BAD_JSON], [403, "<html>"], [403, "null"]] satisfies Answer[]) {
      const other = await endOf([first, second], { handshake });
      assert.deepEqual(other.asked, [first.prototype.name, second.prototype.name]);
    }
  }
});
