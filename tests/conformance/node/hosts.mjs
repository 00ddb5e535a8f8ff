// Many clients of every kind behind one balancer: upgrades begin once messages flow. What each has heard, what it was
// answered, and what went wrong is told by client.
import { NodeWebSocket } from "socket.io-client";
import { createRequire } from "node:module";
import { WebSocket, XhrStreaming } from "../../../client_js/test/support/client.mjs";
import { chooseClient, FACTOR, run, transportOf, until } from "./clients.mjs";

const SECONDS = 60;
const require = createRequire(createRequire(import.meta.url).resolve("socket.io-client-3"));

let begin;
const begun = new Promise((resolve) => (begin = resolve));

/** An upgrade, which is what asks with the id of a session, waits until messages flow, and then for up to `ms`. */
function holdUpgrades(Transport, ms) {
  const { doOpen } = Transport.prototype;
  Transport.prototype.doOpen = function () {
    const open = () => this.readyState === "opening" && doOpen.call(this);
    if (!this.query.sid) return open();
    void begun.then(() => setTimeout(open, ms * FACTOR * Math.random()));
  };
}

async function start(url, name, problems) {
  const client = await chooseClient(url, name);
  const socket = client.open("/", { timeout: 40_000 * FACTOR });
  const one = { name, client, socket, owner: undefined, heard: {}, echoes: [], asked: 0 };
  socket.on("connect", () => (one.owner = socket.io.engine.id.slice(0, 7)));
  socket.on("disconnect", (reason) => problems.push(`${name} disconnect: ${reason}`));
  socket.on("connect_error", (error) => problems.push(`${name} connect: ${error.message} ${error.context?.responseText ?? ""}`));
  socket.on("said", (to, publisher, n, data) => {
    if (data.length !== 32 || data[0] !== (n & 255)) problems.push(`${name} heard other data`);
    (one.heard[`${to} ${publisher}`] ??= []).push(n);
  });
  return one;
}

const bytes = (n) => Buffer.alloc(32, n & 255);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

run(async ({ url, clients, count, rooms, publishers, messages, echoes, upgradeMs }) => {
  const { websocket } = require("engine.io-client").transports;
  for (const Transport of new Set([NodeWebSocket, websocket, WebSocket, XhrStreaming])) holdUpgrades(Transport, upgradeMs);
  const problems = [];
  const check = () => {
    if (problems.length) throw new Error(problems.slice(0, 20).join("\n"));
    return true;
  };
  const all = [];
  for (let n = 0; n < count; n++) all.push(await start(url, clients[n % clients.length], problems));
  await until(
    () => check() && all.every(({ socket }) => socket.connected),
    () => `all connected; ${all.filter(({ socket }) => socket.connected).length} are`,
    SECONDS,
  );
  let entered = 0;
  all.forEach(({ socket }, n) =>
    socket.emit("enter", `room ${n % rooms}`, (isSynced) => (isSynced ? (entered += 1) : problems.push("not synced"))),
  );
  await until(() => check() && entered === count, () => `all in their rooms; ${entered} are`, SECONDS);

  begin();
  const echo = (one) => {
    for (let n = 0; n < 2 && one.asked < echoes; n++) {
      const number = one.asked++;
      one.socket.emit("echo", number, bytes(number), (answer, data) => {
        one.echoes.push(answer);
        if (data.length !== 32 || data[0] !== (number & 255)) problems.push(`${one.name} was answered other data`);
      });
    }
  };
  for (let n = 0; n < messages; n++) {
    all.slice(0, publishers).forEach(({ socket }, publisher) => {
      socket.emit("to_all", publisher, n, bytes(n));
      socket.emit("to_room", `room ${(publisher + n) % rooms}`, publisher, n, bytes(n));
    });
    all.forEach(echo);
    check();
    await pause((upgradeMs * FACTOR * 1.5) / messages);
  }
  const isDone = ({ heard, echoes: answered, socket, client }) =>
    answered.length >= echoes &&
    transportOf(socket) === client.last &&
    Object.keys(heard).filter((key) => key.startsWith("all ")).length === publishers;
  while (all.some(({ asked }) => asked < echoes)) {
    all.forEach(echo);
    await pause(20);
  }
  await until(
    () => check() && all.every(isDone),
    () => `all answered, on the last transport; ${all.filter(isDone).length} are, not ${all.find((one) => !isDone(one)).name}`,
    SECONDS,
  );
  // Each publisher's last message to a room, or to all, comes after its others.
  const last = messages - 1;
  const total = publishers * messages + (publishers * messages) / rooms;
  const heardOf = ({ heard }) => Object.values(heard).reduce((sum, { length }) => sum + length, 0);
  const isComplete = (one) => {
    for (let publisher = 0; publisher < publishers; publisher++) {
      if (one.heard[`all ${publisher}`]?.at(-1) !== last) return false;
    }
    return heardOf(one) >= total;
  };
  await until(
    () => check() && all.every(isComplete),
    () => `all have heard all ${total}; ${all.filter(isComplete).length} have, the least ${Math.min(...all.map(heardOf))}`,
    SECONDS,
  );
  // What comes twice would come by now: the answer of this follows it on the way.
  let answered = 0;
  all.forEach(({ socket }) => socket.emit("echo", -1, bytes(0), () => (answered += 1)));
  await until(() => check() && answered === count, () => `the last answers; ${answered}`, SECONDS);
  const found = all.map(({ name, owner, heard, echoes: answers }) => ({ name, owner, heard, echoes: answers }));
  problems.length = 0; // leaving is none
  all.forEach(({ socket }) => socket.disconnect());
  return found;
});
