// One Chromium that does what it is told: a line of JSON `{id, method, …}` on standard input, one `{id, result}` or
// `{id, error}` on standard output. The end of standard input ends both. tests/support/chromium.py speaks to it.
import readline from "node:readline";
import { launchAsUsers } from "../../conformance/node/chromium.mjs";
import * as faults from "./faults.mjs";
import { startTcpProxy } from "./tcp_proxy.mjs";

const timeoutMs = Number(process.argv[2]);
const chromium = await launchAsUsers({ timeoutMs });
const pages = new Map();
const networks = new Map();
let last = 0;

const found = (things, key) => {
  const thing = things.get(key);
  if (!thing) throw new Error(`there is no ${key}`);
  return thing;
};

const PAGE_FAULTS = ["cutNetwork", "restoreNetwork", "hide", "show", "freeze", "thaw", "leave", "goBack"];

const methods = {
  async openPage({ url }) {
    const page = await chromium.context.newPage();
    page.setDefaultTimeout(timeoutMs);
    const entry = { page, errors: [] };
    page.on("pageerror", (error) => entry.errors.push(String(error)));
    const key = `page ${++last}`;
    pages.set(key, entry);
    await page.goto(url);
    return key;
  },
  async closePage({ page: key }) {
    const { page } = found(pages, key);
    pages.delete(key);
    await faults.restoreNetwork(page);
    await page.close();
  },
  pageErrors: ({ page }) => found(pages, page).errors,
  evaluate: ({ page, source, argument }) =>
    found(pages, page).page.evaluate(`(${source})(${JSON.stringify(argument ?? null)})`),
  async fault({ page, name, args }) {
    if (!PAGE_FAULTS.includes(name)) throw new Error(`there is no fault ${name}`);
    return await faults[name](found(pages, page).page, ...args);
  },
  signalBrowser: ({ name }) => chromium.signal(name),
  async openNetwork({ target }) {
    const network = await startTcpProxy(target);
    const key = `network ${++last}`;
    networks.set(key, network);
    return { key, url: network.url };
  },
  setNetwork: ({ network, mode }) => found(networks, network).setMode(mode),
  countConnections: ({ network }) => found(networks, network).connections(),
  closeNetwork({ network }) {
    found(networks, network).close();
    networks.delete(network);
  },
};

const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

async function answer({ id, method, ...args }) {
  try {
    say({ id, result: (await found(new Map(Object.entries(methods)), method)(args)) ?? null });
  } catch (error) {
    say({ id, error: String(error?.stack ?? error) });
  }
}

say({ version: chromium.browser.version(), pid: chromium.pid });
const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => void answer(JSON.parse(line)));
lines.on("close", async () => {
  for (const network of networks.values()) network.close();
  await chromium.close();
  process.exit(0);
});
