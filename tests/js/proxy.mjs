// An HTTP proxy in front of one server that misbehaves on order, and remembers what passed.
import http from "node:http";
import net from "node:net";

/**
 * Hooks:
 * - `onResponse(request, client)`: may return `{onChunk(chunk), onEnd?(), holdsHead?}` to pass the body on itself.
 * - `delayMs(request)`: how long the response is held before it is passed on.
 * - `onUpgrade`: "pass" (default), "refuse" or "hang"; `upgradeDelayMs` before it is passed on.
 * - `webSocketLifeMs`: how long a connection that was upgraded lasts before it breaks off.
 * - `isDown`: new connections break off at once.
 *
 * `breakAll()` breaks every connection there is, and says how many.
 */
export async function startProxy(target, hooks = {}) {
  const { hostname, port } = new URL(target);
  const requests = [];
  const sockets = new Set();
  const proxy = { requests, hooks };

  const server = http.createServer((incoming, client) => {
    const query = Object.fromEntries(new URL(incoming.url, target).searchParams);
    const request = { method: incoming.method, query, at: Date.now(), body: "" };
    requests.push(request);
    incoming.on("data", (chunk) => (request.body += chunk));
    const upstream = http.request(
      { hostname, port, method: incoming.method, path: incoming.url, headers: incoming.headers, agent: false },
      async (response) => {
        const delay = hooks.delayMs?.(request) ?? 0;
        if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
        const { "transfer-encoding": _, connection: __, ...headers } = response.headers;
        request.status = response.statusCode;
        client.writeHead(response.statusCode, headers);
        const handler = hooks.onResponse?.(request, client);
        if (!handler?.holdsHead) client.flushHeaders();
        response.on("data", (chunk) => (handler ? handler.onChunk(chunk) : client.write(chunk)));
        response.on("end", () => (handler?.onEnd ? handler.onEnd() : client.end()));
        response.on("error", () => client.destroy());
      },
    );
    upstream.on("error", () => client.destroy());
    client.on("close", () => {
      request.isOver = true;
      request.overAt = Date.now();
      upstream.destroy();
    });
    incoming.pipe(upstream);
  });

  server.on("upgrade", async (incoming, client, head) => {
    const query = Object.fromEntries(new URL(incoming.url, target).searchParams);
    requests.push({ method: "UPGRADE", query, at: Date.now() });
    if (hooks.onUpgrade === "refuse") return client.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    if (hooks.onUpgrade === "hang") return;
    if (hooks.upgradeDelayMs) await new Promise((resolve) => setTimeout(resolve, hooks.upgradeDelayMs));
    const upstream = net.connect(port, hostname, () => {
      const lines = [`GET ${incoming.url} HTTP/1.1`];
      for (let i = 0; i < incoming.rawHeaders.length; i += 2) {
        lines.push(`${incoming.rawHeaders[i]}: ${incoming.rawHeaders[i + 1]}`);
      }
      upstream.write(`${lines.join("\r\n")}\r\n\r\n`);
      upstream.write(head);
      upstream.pipe(client).pipe(upstream);
      if (hooks.webSocketLifeMs !== undefined) {
        upstream.once("data", () => setTimeout(() => client.destroy(), hooks.webSocketLifeMs));
      }
    });
    for (const [one, other] of [[upstream, client], [client, upstream]]) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
  });

  server.on("connection", (socket) => {
    if (hooks.isDown) socket.destroy();
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy.url = `http://127.0.0.1:${server.address().port}`;
  proxy.breakAll = () => {
    const count = sockets.size;
    for (const socket of sockets) socket.destroy();
    return count;
  };
  proxy.close = () => {
    proxy.breakAll();
    return new Promise((resolve) => server.close(resolve));
  };
  return proxy;
}

export const isStream = ({ method, query }) => method === "GET" && query.transport === "xhr-streaming";

/** Passes `bytes` of each stream and then breaks the connection, in the middle of whatever comes. */
export const cutAfter = (bytes, how = (client) => client.destroy()) => (request, client) => {
  if (!isStream(request)) return undefined;
  let left = bytes();
  return {
    onChunk(chunk) {
      if (left <= 0) return;
      const part = chunk.subarray(0, left);
      left -= part.length;
      // With the callback the bytes have left before the connection breaks.
      client.write(part, () => left <= 0 && how(client));
    },
  };
};

/** Holds the body of each response back until it is complete; with `holdsHead`, its head too. */
export const buffering = ({ holdsHead = false, matches = isStream } = {}) => (request, client) => {
  if (!matches(request)) return undefined;
  const chunks = [];
  return {
    holdsHead,
    onChunk: (chunk) => chunks.push(chunk),
    onEnd: () => client.end(Buffer.concat(chunks)),
  };
};

/**
 * Passes what comes with the head of each response, and then holds back what comes until `bytes` have gathered: as
 * nginx with `proxy_buffering on` where `X-Accel-Buffering` is ignored.
 */
export const holdingBack = ({ bytes = 4096, matches = isStream } = {}) => (request, client) => {
  if (!matches(request)) return undefined;
  let isFirst = true;
  let held = [];
  const release = () => {
    client.write(Buffer.concat(held));
    held = [];
  };
  return {
    onChunk(chunk) {
      held.push(chunk);
      if (isFirst || held.reduce((sum, { length }) => sum + length, 0) >= bytes) release();
      isFirst = false;
    },
    onEnd() {
      release();
      client.end();
    },
  };
};
