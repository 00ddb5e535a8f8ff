// tidegate-clients that publish through whatever happens, and count what they hear. Reads commands, a JSON object a
// line: {"do": "probe", "gone": […]}, {"do": "renew", "clients": […]}, {"do": "replace", "clients": […]}, {"do": "end"};
// answers each with a line.
//
// An epoch of a client begins when it is connected without being recovered: what it hears in one is without a break.
import { createInterface } from "node:readline";
import { connect } from "../../../client_js/dist/index.js";
import { FACTOR, until } from "./clients.mjs";
import { failAndExit } from "./output.mjs";

const ROOMS = ["plain", "durable"];
const MAX_WAITING = 10;
const { url, count, periodMs } = JSON.parse(process.argv[2]);

/** By node and room: the newest number whose publication was answered as taken by the broker. */
const taken = new Map();
/** By node and room, of durable publications: between which Unix times each was published. */
const times = new Map();
/** By node and room: numbers whose publisher was told that other nodes do not hear of them. */
const refused = new Map();
/** By client and its number: the node that handled it. */
const handledBy = new Map();
const isHandled = new Set();
let found;

function reset() {
  found = { violations: [], gaps: [], returns: [], losses: [], again: 0, heardAnew: 0, heard: 0, answered: 0, refused: 0, gapsTold: {} };
}
reset();

function hear(one, room, node, k, client, n) {
  found.heard += 1;
  const key = `${node} ${room}`;
  const last = one.last.get(key);
  if (last !== undefined && k <= last) {
    found.violations.push(`client ${one.number} heard ${key} ${k} after ${last}: ${k === last ? "twice" : "twice, or out of order"}`);
    return;
  }
  if (last !== undefined && k > last + 1) {
    found.gaps.push({ one, client: one.number, at: one.node, room, node, from: last + 1, to: k - 1 });
  }
  one.last.set(key, k);
  if (k <= (one.everLast.get(key) ?? 0)) found.heardAnew += 1;
  else one.everLast.set(key, k);
  const id = `${client} ${n}`;
  const before = handledBy.get(id);
  if (before === undefined) handledBy.set(id, `${key} ${k}`);
  else if (before !== `${key} ${k}` && !isHandled.has(`${id} ${key} ${k}`)) {
    isHandled.add(`${id} ${key} ${k}`);
    found.again += 1;
    if (before.split(" ")[0] === node) found.violations.push(`message ${n} of client ${client} was handled twice by ${node}`);
  }
}

async function say(one, room) {
  const n = (one.n += 1);
  const [node, k, isTaken, began, ended] = await one.client.emit("say", room, one.number, n);
  found.answered += 1;
  const key = `${node} ${room}`;
  if (room === "durable") {
    if (!times.has(key)) times.set(key, new Map());
    times.get(key).set(k, [began, ended]);
  }
  if (isTaken) taken.set(key, Math.max(taken.get(key) ?? 0, k));
  else {
    found.refused += 1;
    if (!refused.has(key)) refused.set(key, new Set());
    refused.get(key).add(k);
  }
  return [node, k, isTaken];
}

async function enter(one) {
  const { epoch } = one;
  const [node, isSynced] = await one.client.emit("enter");
  if (epoch !== one.epoch) return;
  if (!isSynced) found.violations.push(`client ${one.number} entered, and its node did not hear of it`);
  one.node = node;
}

const fail = (one) => (error) => {
  if (!one.isGone) found.violations.push(`client ${one.number} was refused a message: ${error}`);
};

/** ``n``: of the last message that a client of this number has sent. */
function start(number, n = 0) {
  const client = connect(url, {
    transports: number % 3 ? ["websocket"] : ["polling", "websocket"],
    firstDelay: 200,
    maxDelay: 1_000,
    connectBudget: 10_000 * FACTOR,
    outbox: { timeout: 120_000 * FACTOR },
  });
  const one = { number, client, n, epoch: 0, node: undefined, last: new Map(), everLast: new Map(), isUp: false, isGone: false };
  client.on("said", (room, node, k, from, n) => hear(one, room, node, k, from, n));
  client.connection.subscribe((state) => {
    const isUp = state.status === "connected";
    if (isUp === one.isUp || one.isGone) return;
    one.isUp = isUp;
    if (!isUp) return void found.losses.push({ client: number, why: state.reason.message });
    found.returns.push({ client: number, isRecovered: state.recovered, isFirst: one.epoch === 0 });
    if (state.recovered) return;
    one.epoch += 1;
    one.node = undefined;
    one.last = new Map();
    enter(one).catch(fail(one));
  });
  let turn = number;
  one.timer = setInterval(() => {
    if (client.outbox.size < MAX_WAITING) say(one, ROOMS[turn++ % ROOMS.length]).catch(fail(one));
  }, periodMs);
  return one;
}

const all = Array.from({ length: count }, (_, number) => start(number));

/** New clients instead of these. Those that begin as WebSockets have to hear their own node, whatever is cut off. */
async function replace(numbers) {
  for (const number of numbers) {
    const one = all[number];
    one.isGone = true;
    clearInterval(one.timer);
    one.client.close();
    all[number] = start(number, one.n);
  }
  const fresh = numbers.map((number) => all[number]).filter(({ number }) => number % 3);
  const hears = (one) => one.isUp && [...one.last.keys()].length > 0;
  await until(() => fresh.every(hears), () => `new clients hear their own node: not ${fresh.filter((one) => !hears(one)).map(({ number }) => number)}`, 20);
}

/** What a client of this epoch has yet to hear: all that was taken, of nodes that it has heard before. */
function missing(one, gone) {
  for (const [key, k] of taken) {
    if (gone.has(key)) continue;
    const last = one.last.get(key);
    if (last !== undefined && last < k) return `client ${one.number}: ${last} of ${key}, ${k} was taken`;
  }
}

/** Of nodes that were killed: what was plain and in line there went with them, though its client had an answer. */
function giveUpOn(keys) {
  for (const key of keys) {
    const k = taken.get(key);
    const [node, room] = key.split(" ");
    for (const one of all) {
      const last = one.last.get(key);
      if (last < k) found.gaps.push({ one, client: one.number, at: one.node, room, node, from: last + 1, to: k });
    }
    taken.delete(key);
  }
}

/** Until everybody is connected, and has heard what everybody says now. ``nodes``: those that were killed. */
async function probe(nodes = []) {
  const gone = new Set(nodes.map((node) => `${node} plain`));
  const isIn = (one) => one.isUp && one.node !== undefined;
  await until(() => all.every(isIn), () => `all connected and in their rooms: not ${all.filter((one) => !isIn(one)).map(({ number }) => number)}`, 60);
  const said = await Promise.all(all.flatMap((one) => ROOMS.map(async (room) => ({ room, answer: await say(one, room) }))));
  const newest = new Map();
  for (const { room, answer: [node, k, isTaken] } of said) {
    if (isTaken) newest.set(`${node} ${room}`, Math.max(newest.get(`${node} ${room}`) ?? 0, k));
  }
  const lacks = (one) => [...newest].filter(([key, k]) => (one.last.get(key) ?? 0) < k).map(([key, k]) => `${key} ${k}`);
  await until(
    () => all.every((one) => isIn(one) && !lacks(one).length && !missing(one, gone)),
    () => {
      const late = all.find((one) => !isIn(one) || lacks(one).length || missing(one, gone));
      return `all hear what is said: client ${late.number} of ${late.node} lacks ${lacks(late)}; ${missing(late, gone)}`;
    },
    30,
  );
  giveUpOn(gone);
  // One client of each node, so that none is asked twice.
  const asked = new Map(all.map((one) => [one.node, one]));
  for (const [node, gaps] of await Promise.all([...asked.values()].map((one) => one.client.emit("told")))) {
    found.gapsTold[node] = [...(found.gapsTold[node] ?? []), ...gaps];
  }
}

function report() {
  const isRefused = (key, from, to) => {
    for (let k = from; k <= to; k++) if (!refused.get(key)?.has(k)) return false;
    return true;
  };
  const published = ({ node, room, from, to }) => {
    const key = `${node} ${room}`;
    const numbers = Array.from({ length: to - from + 1 }, (_, at) => from + at);
    return numbers.filter((k) => !refused.get(key)?.has(k)).map((k) => times.get(key)?.get(k) ?? null);
  };
  const gaps = found.gaps
    .filter(({ node, room, from, to }) => !isRefused(`${node} ${room}`, from, to))
    // Where a client has heard others before its node has answered, that is the node where it is now.
    .map(({ one, ...gap }) => ({ ...gap, at: gap.at ?? one.node, ...(gap.room === "durable" && { published: published(gap) }) }));
  const clients = all.map(({ number, node }) => ({ number, node, isPlain: number % 3 !== 0 }));
  const result = { ...found, gaps, clients };
  reset();
  return result;
}

try {
  for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    if (command.do === "renew") for (const number of command.clients) all[number].client.reconnect();
    let problem;
    if (command.do === "replace") await replace(command.clients).catch((error) => (problem = error.message));
    const isProbe = command.do === "probe" || command.do === "end";
    if (isProbe) {
      if (command.do === "end") for (const { timer } of all) clearInterval(timer);
      await probe(command.gone).catch((error) => (problem = error.message));
    }
    process.stdout.write(`${JSON.stringify({ problem, ...(isProbe ? report() : {}) })}\n`);
    if (command.do === "end") break;
  }
  for (const { client } of all) client.close();
  process.exitCode = 0;
} catch (error) {
  await failAndExit(error);
}
