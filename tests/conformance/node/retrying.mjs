// Clients that send each message until it is answered, whatever becomes of their connection: stock ones by the options
// `retries` and `ackTimeout`, and tidegate-client by itself. Each sends one message after the other until standard input
// says "stop"; then what is unanswered is waited for.
import { createInterface } from "node:readline";
import { connect } from "../../../client_js/dist/index.js";
import { chooseClient, FACTOR, run, until } from "./clients.mjs";

const PERIOD_MS = 10;
const DELAYS = { reconnectionDelay: 100, reconnectionDelayMax: 500 };

async function open(url, name) {
  if (name === "tidegate") {
    const client = connect(url, { firstDelay: 100, maxDelay: 500, outbox: { timeout: 120_000 * FACTOR } });
    let connects = 0;
    let isUp = false;
    client.connection.subscribe(({ status }) => {
      if (!isUp && status === "connected") connects += 1;
      isUp = status === "connected";
    });
    return { emit: (...args) => client.emit(...args), connects: () => connects, close: () => client.close() };
  }
  const chosen = await chooseClient(url, name);
  const socket = chosen.open("/", { reconnection: true, ...DELAYS, retries: 1000, ackTimeout: 3_000 * FACTOR });
  let connects = 0;
  socket.on("connect", () => (connects += 1));
  return { emit: (...args) => socket.emitWithAck(...args), connects: () => connects, close: () => socket.disconnect() };
}

run(async ({ url, clients }) => {
  let isStopped = false;
  const all = [];
  for (const name of clients) all.push({ name, sent: 0, answered: 0, ...(await open(url, name)) });
  const work = all.map(async (one, number) => {
    while (!isStopped) {
      const answer = await one.emit("store", number, one.sent++);
      if (String(answer) !== String(one.sent - 1)) throw new Error(`${one.name} was answered ${answer}`);
      one.answered += 1;
      await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
    }
  });
  const failed = Promise.all(work);
  await Promise.race([failed, until(() => all.every((one) => one.answered > 0), () => "all answered", 60)]);
  process.stderr.write("RUNNING\n");
  const lines = createInterface({ input: process.stdin });
  const stopping = (async () => {
    for await (const line of lines) if (line === "stop") break;
  })();
  await Promise.race([failed, stopping]);
  isStopped = true;
  await failed;
  return all.map(({ name, sent, answered, connects, close }) => {
    close();
    return { name, sent, answered, connects: connects() };
  });
});
