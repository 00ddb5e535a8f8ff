// A line between a client and a server that breaks on order: for both of them, or so that the server does not notice.
import net from "node:net";

/**
 * `line.cutAfter = n`: once n more bytes have come from the server, everything that is connected breaks, in the middle
 * of whatever passes. `line.cut()`: now. `line.vanish()`: now, but only the client sees it; until `line.isDown` is false
 * again, nobody gets through.
 */
export async function startLine(target) {
  const { hostname, port } = new URL(target);
  const pairs = new Set();
  const vanished = new Set();
  const line = { cuts: 0, cutAfter: Number.POSITIVE_INFINITY, isDown: false };

  const server = net.createServer((client) => {
    if (line.isDown) return client.destroy();
    const upstream = net.connect(Number(port), hostname);
    const pair = [client, upstream];
    pairs.add(pair);
    client.pipe(upstream);
    upstream.on("data", (chunk) => {
      if (!pairs.has(pair)) return; // vanished: the server goes on, and nobody is there
      const part = chunk.subarray(0, line.cutAfter);
      line.cutAfter -= part.length;
      if (line.cutAfter > 0) return client.write(part);
      // With the callback the bytes have left before the connection breaks.
      client.write(part, () => line.cut());
    });
    const end = () => {
      if (vanished.has(upstream)) return;
      pairs.delete(pair);
      for (const socket of pair) socket.destroy();
    };
    for (const socket of pair) {
      socket.on("error", end);
      socket.on("close", end);
    }
  });

  line.cut = () => {
    line.cuts += 1;
    line.cutAfter = Number.POSITIVE_INFINITY;
    for (const [client, upstream] of pairs) {
      client.destroy();
      upstream.destroy();
    }
    pairs.clear();
  };
  line.vanish = () => {
    line.isDown = true;
    for (const [client, upstream] of pairs) {
      vanished.add(upstream);
      client.unpipe(upstream);
      client.destroy();
    }
    pairs.clear();
  };
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  line.url = `http://127.0.0.1:${server.address().port}`;
  line.close = () => {
    line.cut();
    for (const upstream of vanished) upstream.destroy();
    server.close();
  };
  return line;
}
