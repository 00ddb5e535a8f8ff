// The browser files in headless Chromium, on a page of the gateway itself: all cases in one browser, a page each.
import { launch } from "./chromium.mjs";
import { FACTOR, run } from "./clients.mjs";

/** Runs inside the page. */
async function inPage({ library, path, limit, via }) {
  const names = path.split(">");
  const global = library === "stock" ? window : window.tidegate;
  const options =
    library === "stock"
      ? { transports: names }
      : global.withStreaming({ transports: names, streaming: via ? { via } : {} });
  const socket = global.io({ forceNew: true, reconnection: false, ...options });
  const within = (promise, what) =>
    Promise.race([
      promise,
      new Promise((_, reject) => setTimeout(() => reject(new Error(`never: ${what}`)), limit)),
    ]);
  const until = async (condition, what) => {
    const deadline = Date.now() + limit;
    while (!condition()) {
      if (Date.now() > deadline) throw new Error(`never: ${what()}`);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  };
  const ask = (...args) => within(socket.emitWithAck(...args), `the ack of ${args[0]}`);
  const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");

  const ticks = [];
  const disconnects = [];
  socket.on("tick", ({ n }) => ticks.push(n));
  socket.on("disconnect", (reason) => disconnects.push(reason));
  await within(
    new Promise((resolve, reject) => {
      socket.on("connect", resolve);
      socket.on("connect_error", reject);
    }),
    "connect",
  );
  const transport = () => socket.io.engine.transport.name;
  socket.emit("burst", 200, 100);
  await until(() => transport() === names.at(-1), () => `${names.at(-1)}; it stays on ${transport()}`);
  await until(() => ticks.length >= 200, () => `tick 200, only ${ticks.length}`);
  const burst = [...ticks];
  ticks.length = 0;
  socket.emit("burst", 200, 100);
  await until(() => ticks.length >= 200, () => `tick 200 after the upgrade, only ${ticks.length}`);
  const binary = await ask("binary");
  const echoed = await ask("echo", new Uint8Array([0, 30, 255]).buffer);
  const result = {
    bursts: [burst, [...ticks]],
    echo: await ask("echo", "zwölf € 😀 \u001e"),
    echoed: hex(echoed),
    binary: { buffer: hex(binary.buffer), deep: hex(binary.nested[1].deep) },
    who: await ask("who"),
    transport: transport(),
    disconnects: [...disconnects],
  };
  socket.disconnect();
  return result;
}

run(async ({ url, cases }) => {
  const browser = await launch();
  const results = {};
  try {
    for (const each of cases) {
      const page = await browser.newPage();
      const errors = [];
      page.on("pageerror", (error) => errors.push(String(error)));
      try {
        const script = each.library === "stock" ? "socket.io.js" : "tidegate-client.min.js";
        await page.goto(`${url}/page?script=${script}`);
        results[each.name] = await page.evaluate(inPage, { ...each, limit: 15_000 * FACTOR });
      } catch (error) {
        errors.push(String(error));
      }
      results[each.name] = { ...results[each.name], errors };
      await page.close();
    }
  } finally {
    await browser.close();
  }
  return results;
});
